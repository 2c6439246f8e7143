//! A fit in a file and out of it.

use super::members::Member;
use super::report::FitEpoch;
use super::{Plan, State};
use crate::base::{files, infinite};
use crate::data::Fingerprint;
use crate::model::archive::{Archive, ArchiveKind};
use crate::model::store_snapshot;
use crate::train::held_out::HeldOutState;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The file of a fit that may be stopped.
pub(super) struct Checkpoint {
    path: PathBuf,
    interval: Duration,
    saved: Instant,
    /// What the fit is of: network and options.
    identity: Value,
    data: Fingerprint,
    /// What was in the file when the fit began.
    found: Option<Archive>,
}

/// What the file keeps beside the arrays.
#[derive(Serialize, Deserialize)]
struct Saved {
    identity: Value,
    data: Fingerprint,
    held_out: HeldOutState,
    history: Vec<FitEpoch>,
    epsilons: Vec<Epsilon>,
    is_final: bool,
    /// The state of each member's trainer, and its losses in the present epoch.
    members: Vec<(String, (f64, u64))>,
}

#[derive(Serialize, Deserialize)]
struct Epsilon(#[serde(with = "infinite")] f64);

impl Checkpoint {
    /// The checkpoint that the options name, with what is in the file already: in that of the first process.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] where that is of another fit; [`Error::Corrupt`].
    pub fn open(plan: &Plan) -> Result<Option<Self>> {
        let Some(path) = &plan.options.checkpoint else { return Ok(None) };
        let mut options = serde_json::to_value(plan.options).unwrap_or_default();
        for name in ["checkpoint", "checkpoint_seconds", "device", "distributed"] {
            options.as_object_mut().and_then(|fields| fields.remove(name));
        }
        let identity = json!({"network": plan.network, "options": options});
        let bytes = plan.division.bytes_of_first(|| path.exists().then(|| files::read(path)).transpose())?;
        let read = |bytes: Vec<u8>| Archive::from_bytes(&bytes, &path.display(), &[ArchiveKind::Fit]);
        let found = bytes.map(read).transpose()?;
        if let Some(archive) = &found {
            let saved: Saved = archive.state()?;
            if let Some(difference) = saved.data.difference(plan.data) {
                return Err(Error::InvalidArgument(format!(
                    "{}: the checkpoint is of a fit of other data: {difference}; take another file, or delete it",
                    path.display()
                )));
            }
            for (what, value) in identity.as_object().into_iter().flatten() {
                if saved.identity[what] != *value {
                    return Err(Error::InvalidArgument(format!(
                        "{}: the checkpoint is of another fit: its {what} differ; take another file, or delete it",
                        path.display()
                    )));
                }
            }
        }
        let interval = Duration::try_from_secs_f64(plan.options.checkpoint_seconds).unwrap_or(Duration::MAX);
        let data = plan.data.fingerprint();
        Ok(Some(Checkpoint { path: path.clone(), interval, saved: Instant::now(), identity, data, found }))
    }

    /// Whether the file is old enough to be written again.
    pub fn is_due(&self) -> bool {
        self.saved.elapsed() >= self.interval
    }

    /// Writes how far the fit has come: the first process does, the others tell it of their networks.
    pub fn save(&mut self, plan: &Plan, state: &State) -> Result<()> {
        let own = state.members.iter().map(part).collect::<Result<Vec<_>>>()?;
        let read = |bytes: &[u8]| Archive::from_bytes(bytes, &"a network of another process", &[ArchiveKind::Fit]);
        let parts = plan.division.gather(own, plan.networks(state.is_final), Archive::to_bytes, read)?;
        self.saved = Instant::now();
        plan.division.all_or_none(|| if plan.division.writes() { self.write(state, parts) } else { Ok(()) })
    }

    /// Writes the file, with these `parts` for the networks.
    fn write(&self, state: &State, parts: Vec<Archive>) -> Result<()> {
        let saved = Saved {
            identity: self.identity.clone(),
            data: self.data.clone(),
            held_out: state.held_out.state(),
            history: state.history.clone(),
            epsilons: state.training_epsilons.iter().map(|&epsilon| Epsilon(epsilon)).collect(),
            is_final: state.is_final,
            members: parts.iter().map(Archive::state).collect::<Result<_>>()?,
        };
        let mut archive = Archive::new(ArchiveKind::Fit, &saved)?;
        state.held_out.store(&mut archive, "held_out");
        parts.into_iter().for_each(|part| archive.join(part));
        archive.save(&self.path)
    }

    /// Puts what was in the file into `state`, a fit that has not begun.
    pub fn restore(&self, plan: &Plan, state: &mut State) -> Result<()> {
        let Some(archive) = &self.found else { return Ok(()) };
        let saved: Saved = archive.state()?;
        state.held_out.restore(archive, "held_out", &saved.held_out)?;
        state.history = saved.history;
        state.training_epsilons = saved.epsilons.into_iter().map(|Epsilon(epsilon)| epsilon).collect();
        state.is_final = saved.is_final;
        if state.is_final {
            state.members = plan.final_members(&state.training_epsilons)?;
        }
        if saved.members.len() != plan.networks(state.is_final) || state.training_epsilons.len() != plan.data.outputs()
        {
            return Err(Error::Corrupt("the checkpoint has another number of networks or outputs".into()));
        }
        let epsilons = if state.is_final { state.training_epsilons.clone() } else { state.held_out.epsilons() };
        for member in &mut state.members {
            let number = member.number;
            let (text, losses) = &saved.members[number];
            member.trainer.restore(&archive.part(&format!("member.{number}")).with_state(text.clone()))?;
            member.losses = *losses;
            member.trainer.set_epsilons(&epsilons);
            member.kept = member.trainer.model().lock().stored_snapshot(archive, &format!("kept.{number}"))?;
        }
        Ok(())
    }
}

/// What the file keeps of a network, under names of its own. The state is its part of [`Saved::members`].
fn part(member: &Member) -> Result<Archive> {
    let trainer = member.trainer.to_archive()?;
    let mut part = Archive::new(ArchiveKind::Fit, &(trainer.state_text(), member.losses))?;
    part.add(&format!("member.{}", member.number), trainer);
    store_snapshot(&mut part, &format!("kept.{}", member.number), &member.kept)?;
    Ok(part)
}
