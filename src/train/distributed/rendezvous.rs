//! Where the processes of one training meet, and which of them this one is: from the options, or else from what torchrun
//! or Slurm says in the environment.

use super::DistributedOptions;
use crate::base::options::require;
use crate::torch::process_group::Rendezvous;
use crate::{Error, Result};
use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

/// Where the processes meet. `path` is where the options stand; `variable` looks a variable of the environment up.
///
/// Rank and size come from one source, the first that there is: the options; RANK and WORLD_SIZE, as torchrun sets them;
/// those of a step that Slurm's srun has started. Address and port come from the options or else from the same source.
/// Under torchrun the processes meet in its own store, in all other cases in one that rank 0 holds.
///
/// # Errors
/// [`Error::InvalidConfig`] that names the option or the variable that is missing beside others, or is no number.
pub fn rendezvous(
    given: &DistributedOptions,
    path: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Rendezvous> {
    given.require_timeout(path)?;
    let source = Source { given, path, variable };
    let place = match (given.rank, given.world_size) {
        (Some(rank), Some(size)) => source.options(rank, size),
        (Some(_), None) => Err(source.missing("world_size", "rank")),
        (None, Some(_)) => Err(source.missing("rank", "world_size")),
        (None, None) if source.has("RANK") || source.has("WORLD_SIZE") => source.torchrun(),
        (None, None) if source.has("SLURM_PROCID") => source.slurm(),
        (None, None) => {
            let text = "names no 'rank' and 'world_size', and the environment neither: start the processes with torchrun \
                        or srun, or give each of them both";
            Err(Error::config(path, text))
        }
    }?;
    let limit = format!("less than the number of processes, {}", place.size);
    require(place.rank < place.size, format!("{path}.rank"), place.rank, &limit)?;
    require(place.size == 1 || place.port > 0, format!("{path}.port"), place.port, "at least 1")?;
    Ok(place)
}

/// `path` with the number of this process for each `{rank}` in it; `variable` looks a variable of the environment up.
///
/// # Errors
/// [`Error::InvalidArgument`] where neither torchrun nor srun has said which process this is.
pub fn path_of_rank<'a>(path: &'a str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Cow<'a, str>> {
    const PLACE: &str = "{rank}";
    if !path.contains(PLACE) {
        return Ok(Cow::Borrowed(path));
    }
    let rank = ["RANK", "SLURM_PROCID"].into_iter().find_map(variable);
    let Some(rank) = rank.as_deref().and_then(|rank| rank.trim().parse::<usize>().ok()) else {
        return Err(Error::InvalidArgument(format!(
            "{path}: the environment does not say which process this is, as torchrun and srun do: give a path without {PLACE}"
        )));
    };
    Ok(Cow::Owned(path.replace(PLACE, &rank.to_string())))
}

/// The options, and the environment beside them.
struct Source<'a> {
    given: &'a DistributedOptions,
    path: &'a str,
    variable: &'a dyn Fn(&str) -> Option<String>,
}

impl Source<'_> {
    fn has(&self, name: &str) -> bool {
        (self.variable)(name).is_some()
    }

    fn missing(&self, field: &str, beside: &str) -> Error {
        Error::config(format!("{}.{field}", self.path), format!("is missing beside '{beside}'"))
    }

    /// A variable that must be there, because `beside` is.
    fn text(&self, name: &str, beside: &str) -> Result<String> {
        (self.variable)(name)
            .ok_or_else(|| Error::config(self.path, format!("the environment has {beside}, but not {name}")))
    }

    /// The same, as a whole number.
    fn number<T: FromStr>(&self, name: &str, beside: &str) -> Result<T> {
        let text = self.text(name, beside)?;
        text.trim().parse().map_err(|_| {
            Error::config(self.path, format!("the variable {name} is '{text}', must be a whole number in its range"))
        })
    }

    fn place(&self, (rank, size): (usize, usize), (address, port): (String, u16), prefix: String) -> Rendezvous {
        let timeout = Duration::from_secs_f64(self.given.timeout_seconds);
        Rendezvous { address, port, rank, size, prefix, hosts_store: true, timeout }
    }

    fn options(&self, rank: usize, size: usize) -> Result<Rendezvous> {
        let (address, port) = match (self.given.address.as_deref(), self.given.port) {
            (Some(address), Some(port)) => (address, port),
            // A group of one meets nobody.
            _ if size == 1 => ("", 0),
            (None, _) => return Err(self.missing("address", "rank")),
            (_, None) => return Err(self.missing("port", "rank")),
        };
        Ok(self.place((rank, size), (address.to_string(), port), "biv".into()))
    }

    fn torchrun(&self) -> Result<Rendezvous> {
        let ranks = (self.number("RANK", "WORLD_SIZE")?, self.number("WORLD_SIZE", "RANK")?);
        let address = self.given.address.clone().map_or_else(|| self.text("MASTER_ADDR", "RANK"), Ok)?;
        let port = self.given.port.map_or_else(|| self.number("MASTER_PORT", "RANK"), Ok)?;
        // The store of torchrun outlives the processes that it starts again.
        let restarts = (self.variable)("TORCHELASTIC_RESTART_COUNT").unwrap_or_else(|| "0".into());
        let place = self.place(ranks, (address, port), format!("biv/{restarts}"));
        let is_its_store = self.given.address.is_none() && self.given.port.is_none();
        let has_store = (self.variable)("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|text| text == "True");
        Ok(Rendezvous { hosts_store: !(is_its_store && has_store), ..place })
    }

    fn slurm(&self) -> Result<Rendezvous> {
        let rank = self.number("SLURM_PROCID", "SLURM_PROCID")?;
        let size = self.number("SLURM_NTASKS", "SLURM_PROCID")?;
        let job: u64 = self.number("SLURM_JOB_ID", "SLURM_PROCID")?;
        // The script of a job has a rank as well, but is one process: only srun starts them all.
        let step: u64 = self.number("SLURM_STEP_ID", "SLURM_PROCID")?;
        let address = match &self.given.address {
            Some(given) => given.clone(),
            None => {
                let name = ["SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"].into_iter().find(|name| self.has(name));
                let name = name.unwrap_or("SLURM_JOB_NODELIST");
                let list = self.text(name, "SLURM_PROCID")?;
                first_host(&list).ok_or_else(|| {
                    Error::config(self.path, format!("the variable {name} is '{list}', must be a list of hosts"))
                })?
            }
        };
        let port = self.given.port.unwrap_or_else(|| port_of_step(job, step));
        Ok(self.place((rank, size), (address, port), format!("biv/{job}.{step}")))
    }
}

/// A port for a step of a job, below those that Linux gives to clients: steps of one job have different ones.
fn port_of_step(job: u64, step: u64) -> u16 {
    const FIRST: u64 = 1 << 14;
    // Far apart for jobs that follow each other.
    (FIRST + (job.wrapping_mul(97).wrapping_add(step)) % FIRST) as u16
}

/// The first host of a list as Slurm writes it: `gnode[10,20,25-27],other`, `rack[1-2]n[03,05-07]`. `None` for what is
/// no such list.
fn first_host(list: &str) -> Option<String> {
    let mut host = String::new();
    let mut rest = list.trim();
    loop {
        let (name, after) = rest.split_at(rest.find(['[', ']', ',']).unwrap_or(rest.len()));
        host.push_str(name);
        match after.as_bytes().first() {
            Some(b'[') => {
                let (numbers, after) = after[1..].split_once(']')?;
                let first = numbers.split([',', '-']).next()?;
                if first.is_empty() || !first.bytes().all(|byte| byte.is_ascii_digit()) {
                    return None;
                }
                host.push_str(first);
                rest = after;
            }
            Some(b']') => return None,
            _ => return Some(host).filter(|host| !host.is_empty() && !host.contains(char::is_whitespace)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meet(given: DistributedOptions, variables: &[(&str, &str)]) -> std::result::Result<Rendezvous, String> {
        let look = |name: &str| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| value.to_string());
        rendezvous(&given, "trainer.distributed", &look).map_err(|error| error.to_string())
    }

    fn nothing() -> DistributedOptions {
        DistributedOptions { timeout_seconds: 60.0, ..DistributedOptions::default() }
    }

    fn explicit() -> DistributedOptions {
        DistributedOptions {
            rank: Some(1),
            world_size: Some(2),
            address: Some("a".into()),
            port: Some(7),
            timeout_seconds: 5.5,
            ..DistributedOptions::default()
        }
    }

    const TORCHRUN: &[(&str, &str)] = &[
        ("RANK", "3"),
        ("WORLD_SIZE", "4"),
        ("LOCAL_RANK", "1"),
        ("MASTER_ADDR", "head"),
        ("MASTER_PORT", "29500"),
        ("TORCHELASTIC_RESTART_COUNT", "2"),
        ("TORCHELASTIC_USE_AGENT_STORE", "True"),
    ];
    const SLURM: &[(&str, &str)] = &[
        ("SLURM_PROCID", "5"),
        ("SLURM_NTASKS", "6"),
        ("SLURM_JOB_ID", "1000"),
        ("SLURM_STEP_ID", "3"),
        ("SLURM_STEP_NODELIST", "gnode[10,20,25-27]"),
        ("SLURM_JOB_NODELIST", "gnode[08-27]"),
    ];

    fn without<'a>(all: &[(&'a str, &'a str)], name: &str) -> Vec<(&'a str, &'a str)> {
        all.iter().copied().filter(|(own, _)| *own != name).collect()
    }

    fn with<'a>(all: &[(&'a str, &'a str)], name: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
        [without(all, name), vec![(name, value)]].concat()
    }

    #[test]
    fn options_come_before_torchrun_and_torchrun_before_slurm() {
        let both = [TORCHRUN, SLURM].concat();
        let place = |address: &str, port, rank, size, prefix: &str, hosts_store, seconds| Rendezvous {
            address: address.into(),
            port,
            rank,
            size,
            prefix: prefix.into(),
            hosts_store,
            timeout: Duration::from_secs_f64(seconds),
        };
        assert_eq!(meet(explicit(), &both), Ok(place("a", 7, 1, 2, "biv", true, 5.5)));
        assert_eq!(meet(nothing(), &both), Ok(place("head", 29500, 3, 4, "biv/2", false, 60.0)));
        let slurm = place("gnode10", 31_467, 5, 6, "biv/1000.3", true, 60.0);
        assert_eq!(meet(nothing(), SLURM), Ok(slurm));
    }

    #[test]
    fn one_process_needs_no_place() {
        let alone = DistributedOptions { rank: Some(0), world_size: Some(1), ..nothing() };
        assert_eq!(meet(alone, &[]).unwrap().size, 1);
    }

    #[test]
    fn an_address_or_a_port_may_be_given_alone() {
        let port = DistributedOptions { port: Some(9), ..nothing() };
        let place = meet(port.clone(), SLURM).unwrap();
        assert_eq!((place.address.as_str(), place.port), ("gnode10", 9));
        // Another port than torchrun's is not that of its store.
        let place = meet(port, TORCHRUN).unwrap();
        assert_eq!((place.address.as_str(), place.port, place.hosts_store), ("head", 9, true));
        let without_agent = without(TORCHRUN, "TORCHELASTIC_USE_AGENT_STORE");
        assert!(meet(nothing(), &without_agent).unwrap().hosts_store);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let fails = |given: DistributedOptions, variables: &[(&str, &str)], named: &str| {
            let error = meet(given, variables).unwrap_err();
            assert!(error.starts_with("trainer.distributed") && error.contains(named), "'{named}' is not in '{error}'");
        };
        fails(nothing(), &[], "start the processes with torchrun or srun");
        fails(
            DistributedOptions { rank: None, ..explicit() },
            TORCHRUN,
            "trainer.distributed.rank: is missing beside 'world_size'",
        );
        fails(
            DistributedOptions { world_size: None, ..explicit() },
            TORCHRUN,
            "trainer.distributed.world_size: is missing",
        );
        fails(DistributedOptions { address: None, ..explicit() }, TORCHRUN, "trainer.distributed.address: is missing");
        fails(DistributedOptions { port: None, ..explicit() }, TORCHRUN, "trainer.distributed.port: is missing");
        fails(
            DistributedOptions { rank: Some(2), ..explicit() },
            &[],
            "trainer.distributed.rank: is 2, must be less than",
        );
        fails(DistributedOptions { port: Some(0), ..explicit() }, &[], "trainer.distributed.port");
        for seconds in [0.5, -1.0, f64::NAN, 1e8] {
            fails(
                DistributedOptions { timeout_seconds: seconds, ..explicit() },
                &[],
                "trainer.distributed.timeout_seconds",
            );
        }
        for name in ["RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"] {
            fails(nothing(), &without(TORCHRUN, name), &format!("not {name}"));
        }
        for name in ["RANK", "WORLD_SIZE", "MASTER_PORT"] {
            fails(nothing(), &with(TORCHRUN, name, "x1"), &format!("{name} is 'x1', must be a whole number"));
        }
        fails(nothing(), &with(TORCHRUN, "MASTER_PORT", "70000"), "MASTER_PORT is '70000'");
        for name in ["SLURM_NTASKS", "SLURM_JOB_ID", "SLURM_STEP_ID"] {
            fails(nothing(), &without(SLURM, name), &format!("not {name}"));
        }
        let no_nodes = without(&without(SLURM, "SLURM_STEP_NODELIST"), "SLURM_JOB_NODELIST");
        fails(nothing(), &no_nodes, "not SLURM_JOB_NODELIST");
        fails(
            nothing(),
            &with(SLURM, "SLURM_STEP_NODELIST", "gnode["),
            "SLURM_STEP_NODELIST is 'gnode[', must be a list",
        );
    }

    #[test]
    fn a_path_has_the_rank_in_it() {
        let of = |path: &str, variables: &[(&str, &str)]| {
            let look = |name: &str| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| value.to_string());
            path_of_rank(path, &look).map(Cow::into_owned).map_err(|error| error.to_string())
        };
        assert_eq!(of("{rank}/part-{rank}.csv", TORCHRUN).unwrap(), "3/part-3.csv");
        assert_eq!(of("part-{rank}.csv", SLURM).unwrap(), "part-5.csv");
        assert_eq!(of("part-{rank}.csv", &[SLURM, TORCHRUN].concat()).unwrap(), "part-3.csv", "as where they meet");
        assert_eq!(of("part-{r}.csv", &[]).unwrap(), "part-{r}.csv");
        for variables in [&[][..], &[("RANK", "../x")]] {
            let error = of("part-{rank}.csv", variables).unwrap_err();
            assert!(error.starts_with("part-{rank}.csv: the environment does not say"), "{error}");
        }
    }

    #[test]
    fn the_first_host_of_a_list_is_found() {
        for (list, first) in [
            ("gnode10", "gnode10"),
            ("gnode10,gnode20", "gnode10"),
            ("gnode[10,20,25-27]", "gnode10"),
            ("gnode[25-27,10]", "gnode25"),
            ("gnode[008-012],login1", "gnode008"),
            ("login1,gnode[008-012]", "login1"),
            ("rack[1-2]n[03,05-07]", "rack1n03"),
            ("a[1-2].example.org", "a1.example.org"),
            ("10.0.0.[4-9]", "10.0.0.4"),
        ] {
            assert_eq!(first_host(list).as_deref(), Some(first), "{list}");
        }
        for list in ["", ",", "gnode[", "gnode[]", "gnode]", "gnode[a-b]", "gnode[,2]", "a b", "[-3]"] {
            assert_eq!(first_host(list), None, "{list}");
        }
    }

    #[test]
    fn steps_of_one_job_have_ports_of_their_own() {
        let ports: std::collections::BTreeSet<u16> = (0..1000).map(|step| port_of_step(123_456, step)).collect();
        assert_eq!(ports.len(), 1000);
        assert!(ports.iter().all(|port| (16_384..32_768).contains(port)));
        port_of_step(u64::MAX, u64::MAX);
    }
}
