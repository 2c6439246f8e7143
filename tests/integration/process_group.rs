//! Groups of real processes on loopback: what collectives compute, and what every rank is told when one fails.
//!
//! A rank is this program again, with the one test `a_rank` and its task in an environment variable.

use biv::Error;
use biv::torch::process_group::{ProcessGroup, Rendezvous};
use biv::train::distributed::{DistributedOptions, rendezvous};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tch::{Kind, Tensor};

const TASK: &str = "BIV_TEST_RANK";
/// The timeout of groups that fail, in seconds: the least with which a rank that does not get its turn for up to three
/// seconds, on a busy machine, is not taken for a dead one.
const TIMEOUT: f64 = 12.;
/// The arguments with which this program is a rank.
const RANK: [&str; 4] = ["--exact", "process_group::a_rank", "--nocapture", "--test-threads=1"];

/// What one process does in a group. Where `size` is 0, rank and place are those of the environment.
#[derive(Clone, Serialize, Deserialize)]
struct Task {
    rank: usize,
    size: usize,
    port: u16,
    timeout: f64,
    /// How many groups it joins, one after the other.
    groups: usize,
    /// What it calls in each: see [`call`].
    calls: Vec<String>,
}

/// Makes one call and says what came of it.
fn call(group: &ProcessGroup, call: &str) -> biv::Result<String> {
    let (name, argument) = call.split_once(' ').unwrap_or((call, ""));
    let numbers =
        |kind: Kind| Tensor::arange(argument.parse::<i64>().unwrap(), (Kind::Int64, tch::Device::Cpu)).to_kind(kind);
    let rank = group.rank() as i64;
    Ok(match name {
        "reduce" | "reduce_f64" | "reduce_i64" | "reduce_bf16" => {
            let kind = match name {
                "reduce" => Kind::Float,
                "reduce_f64" => Kind::Double,
                "reduce_bf16" => Kind::BFloat16,
                _ => Kind::Int64,
            };
            let mut sum = (numbers(kind) + rank).to_kind(kind);
            group.all_reduce(&mut sum)?;
            format!("{:?}", Vec::<f64>::try_from(sum.to_kind(Kind::Double)).unwrap())
        }
        "reduce_transposed" => {
            let mut sum = numbers(Kind::Float).reshape([2, -1]).tr();
            group.all_reduce(&mut sum)?;
            format!("{:?}", Vec::<f32>::try_from(sum.contiguous().view([-1])).unwrap())
        }
        "gather" => {
            let all = group.all_gather(&(numbers(Kind::Float) + 10 * rank))?;
            format!("{:?}", all.into_iter().map(|one| Vec::<f32>::try_from(one).unwrap()).collect::<Vec<_>>())
        }
        "broadcast" => {
            let mut tensor = numbers(Kind::Float) + 10 * (rank + 1);
            group.broadcast(&mut tensor)?;
            format!("{:?}", Vec::<f32>::try_from(tensor).unwrap())
        }
        "bytes" => format!("{:?}", group.all_gather_values(argument.as_bytes())?),
        "agree" => {
            let (what, value) = argument.split_once('=').unwrap();
            group.agree(what, value)?;
            "agreed".into()
        }
        "sleep" => {
            std::thread::sleep(Duration::from_secs_f64(argument.parse().unwrap()));
            "slept".into()
        }
        "loop" => {
            let mut sum = numbers(Kind::Float);
            group.all_reduce(&mut sum)?;
            println!("looping");
            loop {
                group.all_reduce(&mut sum.fill_(1.))?;
            }
        }
        // A small call as many times as said.
        "time" => {
            let mut sum = Tensor::ones([2000], (Kind::Float, tch::Device::Cpu));
            let count: u32 = argument.parse().unwrap();
            group.all_reduce(&mut sum)?;
            let start = Instant::now();
            for _ in 0..count {
                group.all_reduce(&mut sum.fill_(1.))?;
            }
            format!("{:?} per call", start.elapsed() / count)
        }
        _ => panic!("no call '{call}'"),
    })
}

/// A rank of another test's group; nothing by itself.
#[test]
fn a_rank() {
    let Ok(task) = std::env::var(TASK) else { return };
    // SAFETY: nothing else in this process has begun. A host in C has the default too, by which SIGPIPE ends the process.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let task: Task = serde_json::from_str(&task).unwrap();
    let place = match task.size {
        0 => {
            let given = DistributedOptions { timeout_seconds: task.timeout, ..DistributedOptions::default() };
            rendezvous(&given, "distributed", &|name| std::env::var(name).ok()).unwrap()
        }
        _ => Rendezvous {
            address: "127.0.0.1".into(),
            port: task.port,
            rank: task.rank,
            size: task.size,
            prefix: "test".into(),
            hosts_store: true,
            timeout: Duration::from_secs_f64(task.timeout),
        },
    };
    println!("\njoining");
    match (0..task.groups).try_for_each(|_| in_a_group(&place, &task.calls)) {
        Ok(()) => {}
        Err(Error::Distributed(text)) => println!("failed {text}"),
        Err(other) => println!("another error: {other:?}"),
    }
    println!("ended {}", now());
}

/// Seconds since 1970: the same clock in every process.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

fn in_a_group(place: &Rendezvous, calls: &[String]) -> biv::Result<()> {
    let group = ProcessGroup::join(place)?;
    for one in calls {
        match call(&group, one) {
            Ok(text) => println!("{text}"),
            Err(error) => {
                let again = group.all_gather_values(b"").expect_err("a broken group stays broken");
                assert_eq!(again.to_string(), error.to_string());
                return Err(error);
            }
        }
    }
    Ok(())
}

/// A process of a group.
struct Rank {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

/// What a process printed.
#[derive(Debug)]
struct Outcome {
    lines: Vec<String>,
    errors: String,
    success: bool,
}

impl Outcome {
    /// The error of a rank that failed as it should: with a status, silently.
    fn failure(&self) -> &str {
        assert!(self.success && self.errors.is_empty(), "{self:?}");
        let text = self.lines.iter().find_map(|line| line.strip_prefix("failed "));
        text.unwrap_or_else(|| panic!("{self:?}"))
    }

    /// When its last call had ended. The end of its process can be much later on a busy machine.
    fn end(&self) -> f64 {
        self.lines.iter().find_map(|line| line.strip_prefix("ended ")).unwrap().parse().unwrap()
    }

    /// What a rank printed that succeeded.
    fn results(&self) -> Vec<&str> {
        assert!(self.success && self.errors.is_empty(), "{self:?}");
        let begun = self.lines.iter().skip_while(|line| *line != "joining").skip(1);
        begun.map(String::as_str).take_while(|line| !line.starts_with("ended")).collect()
    }
}

fn start(task: &Task) -> Rank {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(RANK).env(TASK, serde_json::to_string(task).unwrap()).env("OMP_NUM_THREADS", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    Rank { child, lines }
}

impl Rank {
    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// The ports at which it listens.
    fn ports(&self) -> Vec<u16> {
        let process = format!("/proc/{}", self.child.id());
        let links =
            std::fs::read_dir(format!("{process}/fd")).unwrap().map(|file| std::fs::read_link(file.unwrap().path()));
        let own: Vec<String> = links.flatten().map(|link| link.display().to_string()).collect();
        let sockets = std::fs::read_to_string(format!("{process}/net/tcp")).unwrap();
        let listening =
            sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).filter(|line| line[3] == "0A");
        let listening = listening.filter(|line| own.contains(&format!("socket:[{}]", line[9])));
        listening.map(|line| u16::from_str_radix(line[1].split(':').nth(1).unwrap(), 16).unwrap()).collect()
    }

    /// Waits until it prints `line`.
    fn until(&mut self, line: &str) {
        let mut seen = String::new();
        while self.lines.read_line(&mut seen).unwrap() > 0 {
            if seen.trim_end().ends_with(line) {
                return;
            }
        }
        panic!("no line '{line}' in {seen}");
    }

    fn end(mut self) -> Outcome {
        let mut lines = Vec::new();
        let mut text = String::new();
        self.lines.read_to_string(&mut text).unwrap();
        lines.extend(text.lines().map(str::to_string));
        let mut errors = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        let success = self.child.wait().unwrap().success();
        Outcome { lines, errors, success }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The tasks of a group whose ranks all make the same calls.
fn group(size: usize, timeout: f64, calls: &[&str]) -> Vec<Task> {
    let calls: Vec<String> = calls.iter().map(|call| call.to_string()).collect();
    let port = free_port();
    let task = |rank| Task { rank, size, port, timeout, groups: 1, calls: calls.clone() };
    (0..size).map(task).collect()
}

fn run(tasks: &[Task]) -> Vec<Outcome> {
    end(tasks.iter().map(start).collect())
}

fn end(ranks: Vec<Rank>) -> Vec<Outcome> {
    let ends: Vec<_> = ranks.into_iter().map(|rank| std::thread::spawn(|| rank.end())).collect();
    ends.into_iter().map(|end| end.join().unwrap()).collect()
}

/// All of `outcomes` failed after `fault`, with the same error, which names what is in `named`, and none hung. How long
/// each took is printed; it is the timeout at most where the processes get their turns.
fn all_blame(outcomes: &[Outcome], named: &str, fault: f64) {
    assert!(!outcomes.is_empty());
    for outcome in outcomes {
        let text = outcome.failure();
        assert!(text.contains(named), "'{named}' is not in '{text}'");
        assert_eq!(text, outcomes[0].failure());
        let took = outcome.end() - fault;
        println!("{took:.1} s: {text}");
        assert!(took < TIMEOUT + 60., "it hung for {took} s: {outcome:?}");
    }
}

/// The outcomes of all ranks but `gone`, which was killed.
fn survivors(ranks: Vec<Rank>, gone: usize) -> Vec<Outcome> {
    let mut outcomes = end(ranks);
    outcomes.remove(gone);
    outcomes
}

/// A group whose ranks all sum again and again.
fn looping(size: usize, timeout: f64) -> Vec<Rank> {
    let mut ranks: Vec<Rank> = group(size, timeout, &["loop 1000"]).iter().map(start).collect();
    ranks.iter_mut().for_each(|rank| rank.until("looping"));
    ranks
}

#[test]
fn collectives_compute_what_they_say() {
    for size in [1, 2, 3] {
        let calls = [
            "reduce 4",
            "reduce_f64 3",
            "reduce_i64 2",
            "reduce_bf16 2",
            "reduce 4",
            "reduce_transposed 4",
            "gather 2",
        ];
        let mut tasks = group(size, 20., &calls);
        for task in &mut tasks {
            let own = "xyz"[..task.rank].to_string();
            task.calls.extend([
                format!("bytes {own}"),
                "bytes".into(),
                "broadcast 2".into(),
                "agree the seed=7".into(),
            ]);
        }
        let n = size as f64;
        let offsets = n * (n - 1.) / 2.;
        let sum = |count: usize| format!("{:?}", (0..count).map(|i| i as f64 * n + offsets).collect::<Vec<_>>());
        let gathered: Vec<_> = (0..size).map(|rank| vec![10. * rank as f32, 10. * rank as f32 + 1.]).collect();
        let bytes: Vec<_> = (0..size).map(|rank| b"xyz"[..rank].to_vec()).collect();
        for outcome in run(&tasks) {
            let results = outcome.results();
            assert_eq!(results[..5], [4, 3, 2, 2, 4].map(sum));
            assert_eq!(results[5], format!("{:?}", [0., 2. * n, n, 3. * n].map(|value| value as f32)));
            assert_eq!(results[6], format!("{gathered:?}"));
            assert_eq!(results[7], format!("{bytes:?}"));
            assert_eq!(results[8], format!("{:?}", vec![Vec::<u8>::new(); size]));
            assert_eq!(results[9..], ["[10.0, 11.0]", "agreed"]);
        }
    }
}

#[test]
fn groups_follow_each_other_at_one_port() {
    let mut tasks = group(2, 20., &["reduce 2"]);
    tasks.iter_mut().for_each(|task| task.groups = 4);
    for outcome in run(&tasks) {
        assert_eq!(outcome.results(), ["[1.0, 3.0]"; 4]);
    }
}

#[test]
fn strangers_at_the_ports_change_nothing() {
    let mut ranks: Vec<Rank> = group(2, 20., &["reduce 2", "sleep 3", "reduce 2"]).iter().map(start).collect();
    ranks.iter_mut().for_each(|rank| rank.until("[1.0, 3.0]"));
    let ports: Vec<u16> = ranks.iter().flat_map(Rank::ports).collect();
    assert!(ports.len() >= 3, "the store and gloo on each rank: {ports:?}");
    for port in ports {
        let mut stranger = TcpStream::connect(("127.0.0.1", port)).unwrap();
        drop(stranger.write_all(b"GET / HTTP/1.1\r\n\r\n"));
        drop(stranger.write_all(&[255; 5000]));
    }
    for rank in ranks {
        let outcome = rank.end();
        assert!(outcome.success && outcome.errors.is_empty(), "{outcome:?}");
        assert_eq!(outcome.lines[..2], ["slept", "[1.0, 3.0]"]);
    }
}

#[test]
fn a_killed_rank_is_named_by_all_others() {
    for killed in 0..3 {
        let ranks = looping(3, TIMEOUT);
        let fault = now();
        ranks[killed].signal("-KILL");
        all_blame(&survivors(ranks, killed), &format!("rank {killed}"), fault);
    }
}

/// A rank that is killed at some moment, also while it joins: BIV_KILLS times, by default three.
#[test]
fn a_rank_that_is_killed_at_any_moment_is_named() {
    let mut random = 12_345_u64;
    let mut below = |limit: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % limit
    };
    let kills = std::env::var("BIV_KILLS").map_or(3, |kills| kills.parse().unwrap());
    for round in 0..kills {
        let (size, loops) = (2 + below(3) as usize, round % 2 == 0);
        let (killed, wait) = (below(size as u64) as usize, Duration::from_micros(below(500_000)));
        println!(
            "round {round}: rank {killed} of {size}, {wait:?} after {}",
            if loops { "all have joined" } else { "it began" }
        );
        let mut ranks = if loops {
            looping(size, TIMEOUT)
        } else {
            group(size, TIMEOUT, &["loop 1000"]).iter().map(start).collect()
        };
        if !loops {
            ranks[killed].until("joining");
        }
        std::thread::sleep(wait);
        let fault = now();
        ranks[killed].signal("-KILL");
        all_blame(&survivors(ranks, killed), &format!("rank {killed}"), fault);
    }
}

#[test]
fn a_stopped_rank_is_named_by_all_others() {
    for stopped in [0, 1] {
        let ranks = looping(3, TIMEOUT);
        let fault = now();
        ranks[stopped].signal("-STOP");
        let mut others = ranks;
        let stopped_rank = others.remove(stopped);
        let outcomes = end(others);
        all_blame(&outcomes, &format!("rank {stopped}"), fault);
        // It gets an error as well when it goes on.
        stopped_rank.signal("-CONT");
        let outcome = stopped_rank.end();
        println!("the stopped one: {}", outcome.failure());
    }
}

#[test]
fn ranks_that_do_not_fit_are_named() {
    type Change = fn(&mut Vec<Task>);
    let cases: [(&str, Change, &str); 4] = [
        ("another size", |tasks| tasks[1].size = 4, "processes, and rank "),
        ("a rank twice", |tasks| tasks[2].rank = 1, "rank 1 is there twice"),
        ("a rank missing", |tasks| drop(tasks.remove(2)), "rank 2 of 3 is missing"),
        ("rank 0 missing", |tasks| drop(tasks.remove(0)), "rank 0, which holds the store at 127.0.0.1:"),
    ];
    for (name, change, named) in cases {
        let mut tasks = group(3, TIMEOUT, &["reduce 2"]);
        change(&mut tasks);
        println!("{name}:");
        let fault = now();
        all_blame(&run(&tasks), named, fault);
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let tasks = group(2, TIMEOUT, &["reduce 2"]);
    let _taken = TcpListener::bind(("127.0.0.1", tasks[0].port)).unwrap();
    let fault = now();
    for (outcome, named) in run(&tasks).iter().zip(["another process uses this port", "rank 0, which holds the store"])
    {
        all_blame(std::slice::from_ref(outcome), named, fault);
    }
}

#[test]
fn ranks_that_do_different_things_are_named() {
    let cases: [(&str, &[&str], &[&str], &str); 5] = [
        (
            "other options",
            &["agree the seed=1"],
            &["agree the seed=2"],
            "the ranks differ in the seed: ranks 0, 2: 1; rank 1: 2",
        ),
        ("another size of a tensor", &["reduce 4"], &["reduce 5"], "rank 1: all-reduce of [5] values of type Float"),
        (
            "another size that both know",
            &["reduce 4", "reduce 5", "reduce 4"],
            &["reduce 4", "reduce 5", "reduce 5"],
            "the ranks do different things: rank ",
        ),
        ("fewer calls", &["reduce 4", "reduce 4"], &["reduce 4"], "rank 1 left the group before"),
        (
            "a rank that comes too late",
            &["reduce 4", "reduce 4"],
            &["reduce 4", "sleep 16", "reduce 4"],
            "rank 1 did not come to it within 12 s, though alive",
        ),
    ];
    for (name, calls, other, named) in cases {
        let mut tasks = group(3, TIMEOUT, calls);
        tasks[1].calls = other.iter().map(|call| call.to_string()).collect();
        println!("{name}:");
        let fault = now();
        let mut outcomes = run(&tasks);
        if name == "fewer calls" {
            assert_eq!(outcomes.remove(1).results().len(), 1);
        } else if other.contains(&"sleep 16") {
            // It is told when it comes.
            assert!(outcomes.remove(1).failure().contains(named));
        }
        all_blame(&outcomes, named, fault);
    }
}

/// Two groups, one after the other, in the store of torchrun.
#[test]
#[ignore = "needs PyTorch's torchrun: PYTHON"]
fn torchrun_of_the_pytorch_installed_here_starts_ranks() {
    let calls = vec!["reduce 2".to_string(), "agree the seed=1".to_string()];
    let task = Task { rank: 0, size: 0, port: 0, timeout: 20., groups: 2, calls };
    let mut command = Command::new(std::env::var_os("PYTHON").unwrap_or("python3".into()));
    command.args(["-m", "torch.distributed.run", "--nproc-per-node=2", "--no-python"]);
    command.args(["--master-addr=127.0.0.1", &format!("--master-port={}", free_port())]);
    let output =
        command.arg(std::env::current_exe().unwrap()).args(RANK).env(TASK, serde_json::to_string(&task).unwrap());
    let output = output.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text} {}", String::from_utf8_lossy(&output.stderr));
    // The lines of the two may be mixed.
    assert_eq!([text.matches("[1.0, 3.0]").count(), text.matches("agreed").count()], [4, 4], "{text}");
}
