//! What ranks tell each other before they train: that each is ready, and what must be the same on all.

use super::Ranks;
use crate::data::Fingerprint;
use crate::torch::process_group::{ranks, sides};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Something that must be the same on all ranks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::train) struct Fact {
    /// As a message names it: "the labels".
    what: String,
    value: String,
}

impl Fact {
    pub fn new(what: impl Into<String>, value: impl ToString) -> Self {
        Fact { what: what.into(), value: value.to_string() }
    }
}

/// The fields of `options`, each by its path below `path`, but for those in `own`, which each rank has for itself.
pub(in crate::train) fn facts_of_options(path: &str, options: &impl Serialize, own: &[&str]) -> Result<Vec<Fact>> {
    let value = serde_json::to_value(options).map_err(|error| Error::Internal(error.to_string()))?;
    let fields = value.as_object().into_iter().flatten().filter(|(name, _)| !own.contains(&name.as_str()));
    Ok(fields.map(|(name, value)| Fact::new(format!("{path}.{name}"), value)).collect())
}

/// What tells `data` from other data, which messages call so.
pub(in crate::train) fn facts_of_data(data: &str, fingerprint: &Fingerprint) -> Result<Vec<Fact>> {
    facts_of_options(data, fingerprint, &[])
}

/// What `make` makes, where all ranks do it and say the same of it, else nothing on any of them.
///
/// # Errors
/// That of `make`; as [`Ranks::agree`].
pub(in crate::train) fn together<T>(ranks: Option<&Ranks>, make: impl FnOnce() -> Result<(T, Vec<Fact>)>) -> Result<T> {
    let Some(ranks) = ranks else { return Ok(make()?.0) };
    match make() {
        Ok((made, facts)) => ranks.agree(Ok(facts)).map(|()| made),
        Err(error) => ranks.agree(Err(error)).and(Err(Error::Internal("an error that is none".into()))),
    }
}

/// As [`together`], where nothing has to be the same: what `make` makes, where all ranks do it.
///
/// # Errors
/// As [`together`].
pub(crate) fn all_or_none<T>(ranks: Option<&Ranks>, make: impl FnOnce() -> Result<T>) -> Result<T> {
    together(ranks, || Ok((make()?, vec![])))
}

impl Ranks {
    /// Ends well where it does on all ranks, and where they say the same; else with an error on all of them. Each rank
    /// calls this with what it found, or with the error that it met.
    ///
    /// # Errors
    /// The rank's own; else [`Error::Distributed`], which names the ranks and what was wrong there, or in what they differ.
    pub(in crate::train) fn agree(&self, own: Result<Vec<Fact>>) -> Result<()> {
        let (said, error) = match own {
            Ok(facts) => (Ok(facts), None),
            Err(error) => (Err(error.to_string()), Some(error)),
        };
        let text = serde_json::to_vec(&said).map_err(|error| Error::Internal(error.to_string()))?;
        let heard = self.group.all_gather_values(&text);
        if let Some(error) = error {
            return Err(error);
        }
        let foreign = |error| Error::Distributed(format!("another program answers: {error}"));
        let heard =
            heard?.iter().map(|text| serde_json::from_slice(text).map_err(foreign)).collect::<Result<Vec<_>>>()?;
        compare(&heard)
    }
}

/// An error unless all ranks have said the same.
fn compare(heard: &[std::result::Result<Vec<Fact>, String>]) -> Result<()> {
    let failed =
        heard.iter().enumerate().filter_map(|(rank, said)| Some(format!("rank {rank}: {}", said.as_ref().err()?)));
    let failed: Vec<String> = failed.collect();
    if !failed.is_empty() {
        return Err(Error::Distributed(failed.join("; ")));
    }
    let facts: Vec<&[Fact]> = heard.iter().map(|said| said.as_deref().unwrap_or_default()).collect();
    let mut names: Vec<&str> = vec![];
    for fact in facts.iter().flat_map(|facts| facts.iter()) {
        if !names.contains(&&*fact.what) {
            names.push(&fact.what);
        }
    }
    let differences: Vec<String> = names.iter().filter_map(|what| difference(what, &facts)).collect();
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::Distributed(format!("the ranks differ in {}", differences.join(", and in "))))
}

/// What the ranks say of `what`, where it is not the same.
fn difference<'a>(what: &str, facts: &[&'a [Fact]]) -> Option<String> {
    const LONGEST: usize = 100;
    let value = |facts: &&'a [Fact]| facts.iter().find(|fact| fact.what == what).map_or("none", |fact| &*fact.value);
    let sides = sides(facts.iter().map(value));
    if sides.len() == 1 {
        return None;
    }
    // Of long values what follows the last word that they have in common.
    let common = |a: &str, b: &str| a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
    let same = sides.iter().map(|(value, _)| common(sides[0].0, value)).min().unwrap_or(0);
    let is_long = sides.iter().any(|(value, _)| value.chars().count() > LONGEST);
    let start = sides[0].0.chars().take(same).collect::<String>().rfind(", ").filter(|_| is_long).map(|at| at + 2);
    let shown = |value: &str| {
        let (before, rest) = start.map_or(("", value), |start| ("... ", &value[start..]));
        format!("{before}{}", rest.chars().take(LONGEST).collect::<String>())
    };
    let sides = sides.iter().map(|(value, which)| format!("{}: {}", ranks(which), shown(value)));
    Some(format!("{what} ({})", sides.collect::<Vec<_>>().join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_with_the_ranks() {
        let said =
            |size: u32, labels: &str| Ok(vec![Fact::new("trainer.batch_size", size), Fact::new("the labels", labels)]);
        let fault = |heard: &[_]| compare(heard).unwrap_err().to_string();
        assert!(compare(&[said(64, "a"), said(64, "a"), said(64, "a")]).is_ok());
        assert_eq!(
            fault(&[said(64, "a"), said(32, "a"), said(64, "a")]),
            "the ranks differ in trainer.batch_size (ranks 0, 2: 64; rank 1: 32)"
        );
        assert_eq!(
            fault(&[said(64, "a"), said(32, "b")]),
            "the ranks differ in trainer.batch_size (rank 0: 64; rank 1: 32), and in the labels (rank 0: a; rank 1: b)"
        );
        assert_eq!(fault(&[said(64, "a"), Ok(vec![])]).matches("rank 1: none").count(), 2);
        assert_eq!(fault(&[said(64, "a"), Err("no rows".into()), said(32, "a")]), "rank 1: no rows");
        let many = |last: &str| (0..60).map(|k| format!("x{k}, ")).collect::<String>() + last;
        assert_eq!(
            fault(&[said(64, &many("weight")), said(64, &many("width"))]),
            "the ranks differ in the labels (rank 0: ... weight; rank 1: ... width)"
        );
    }
}
