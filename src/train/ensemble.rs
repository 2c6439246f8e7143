//! Steps of several networks, each trained by itself: side by side on the cores where the library's own kernel takes them,
//! else one after the other.
//!
//! A network's steps do not depend on the others', so that each gets the bits of a training alone. Threads take whole
//! networks, for several steps at a time: a step of a small one is too short to be divided.

use super::learner::{Learner, StepReport, learning_rate, require_rows, weigh};
use super::step::{Engine, Kept, Lent};
use super::training_data::{MaybeOwned, NormalizedData};
use crate::base::fault;
use crate::kernels::mlp::BatchSlices;
use crate::kernels::team::{self, Team};
use crate::model::Model;
use crate::torch::ending;
use crate::torch::tensor::values;
use crate::{Error, Result};
use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The most steps of each network before their losses are read.
const MOST_STEPS: usize = 64;

/// So many weights times rows, of all networks and steps, are work for some 20 ms.
const BLOCK_WORK: usize = 400_000_000;

/// With less work than this, one thread is as fast as several.
const SHARED_WORK: usize = 2_000_000;

/// A network gives way to the others this many times before the losses are read: then the cores share five evenly.
const SLICES: usize = 4;

/// The mini-batches of one step of each network: one for all of them, or one for each.
pub(super) struct Round<'a> {
    pub batches: Vec<(MaybeOwned<'a>, Vec<usize>)>,
}

/// What [`Learner::take`] did.
pub(super) struct Taken {
    /// For each network, what each of its steps did.
    pub reports: Vec<Vec<StepReport>>,
    /// Why there are fewer of them than rounds.
    pub fault: Option<Fault>,
}

/// Why a network took no step.
pub(super) struct Fault {
    /// The network's number.
    pub network: usize,
    pub cause: Cause,
}

/// What kept a network from a step.
pub(super) enum Cause {
    /// The report has a loss that is not finite.
    Loss(StepReport),
    Error(Error),
}

/// The values of a [`Round`]'s mini-batch, for any thread.
struct Slices<'a> {
    features: &'a [f32],
    labels: &'a [f32],
    variances: Option<&'a [f64]>,
    rows: &'a [usize],
}

/// What the rows of a mini-batch weigh, and the report of a step on it without loss and rate.
struct Weighed {
    coefficients: Vec<f32>,
    report: StepReport,
}

/// A network at work. Dropped before it is told to stay as it is, by a panic too, it goes back to what it was.
struct Runner<'a> {
    number: usize,
    network: Lent<'a>,
    before: Option<Kept>,
    reports: Vec<StepReport>,
    fault: Option<Cause>,
}

impl Learner {
    /// Whether there are several networks, each trained by itself.
    pub(super) fn is_ensemble(&self) -> bool {
        self.engines.len() > 1
    }

    /// How many steps on mini-batches of `rows` rows each network takes before their losses are read.
    pub(super) fn rounds(&self, rows: usize) -> usize {
        if self.runs_side_by_side(rows) { (BLOCK_WORK / self.work(rows)).clamp(1, MOST_STEPS) } else { 1 }
    }

    /// One step of each network on each of `rounds`, which are of epoch `epoch`, counted from 0: side by side, or on a single
    /// round. Where one of them cannot be taken, all networks are as they were before its round.
    ///
    /// # Errors
    /// Where nothing has changed: [`Error::Device`], [`Error::OutOfMemory`].
    pub(super) fn take(&mut self, rounds: &[Round], epoch: u64) -> Result<Taken> {
        let _at_work = ending::at_work();
        let model = Arc::clone(&self.model);
        let model = model.lock();
        self.require_own_model(&model)?;
        let rows = || rounds.iter().flat_map(|round| &round.batches).map(|(_, rows)| rows.len());
        rows().try_for_each(|rows| require_rows(&model, rows, None))?;
        let rows = rows().max().unwrap_or(0);
        if !self.runs_side_by_side(rows) {
            return self.run_or_put_back(&model, rounds, epoch);
        }
        let taken = self.run_side_by_side(&model, rounds, epoch)?;
        match taken.reports.iter().map(Vec::len).min() {
            // The steps before it once more.
            Some(complete) if taken.fault.is_some() && complete > 0 => {
                let reports = self.run_side_by_side(&model, &rounds[..complete], epoch)?.reports;
                Ok(Taken { reports, ..taken })
            }
            _ => Ok(taken),
        }
    }

    /// Weights times rows of one step of all networks.
    fn work(&self, rows: usize) -> usize {
        let weights = self.engines.iter().map(|engine| engine.parameter_count()).sum::<usize>();
        weights.saturating_mul(rows).max(1)
    }

    /// Whether threads take whole networks. Those of long steps have all threads instead, one after the other: they divide
    /// such a step well, and a fit is to end soon after it is told to.
    fn runs_side_by_side(&self, rows: usize) -> bool {
        let is_kernel = self.engines.iter().all(|engine| engine.runs_on_one_thread());
        is_kernel && self.work(rows).saturating_mul(SLICES) <= BLOCK_WORK
    }

    /// As [`Learner::run_in_turns`], and everything as before where not all steps are taken, by a panic too.
    fn run_or_put_back(&mut self, model: &Model, rounds: &[Round], epoch: u64) -> Result<Taken> {
        let kept = self.engines.iter_mut().map(Engine::keep).collect::<Result<Vec<_>>>()?;
        let taken = catch_unwind(AssertUnwindSafe(|| self.run_in_turns(model, rounds, epoch)));
        if !matches!(taken, Ok(Ok(Taken { fault: None, .. }))) {
            self.engines.iter_mut().zip(&kept).try_for_each(|(engine, kept)| engine.put_back(kept))?;
        }
        taken.unwrap_or_else(|panic| resume_unwind(panic))
    }

    fn run_in_turns(&mut self, model: &Model, rounds: &[Round], epoch: u64) -> Result<Taken> {
        let mut reports = vec![vec![]; self.engines.len()];
        for round in rounds {
            let mut weights = None;
            for (number, reports) in reports.iter_mut().enumerate() {
                let (data, rows) = round.of(number);
                if round.batches.len() > 1 || weights.is_none() {
                    let variances = data.variances.as_deref();
                    weights = Some(weigh(&self.options.loss, &self.parameters, variances, rows)?);
                }
                let Some(weights) = &weights else { continue };
                let step = self.step_by(number, model, data, rows, weights, epoch)?;
                let report = self.read_by(number, model, vec![step])?.swap_remove(0);
                if !report.loss.is_finite() {
                    let fault = Some(Fault { network: number, cause: Cause::Loss(report) });
                    return Ok(Taken { reports: vec![], fault });
                }
                reports.push(report);
            }
        }
        Ok(Taken { reports, fault: None })
    }

    fn run_side_by_side(&mut self, model: &Model, rounds: &[Round], epoch: u64) -> Result<Taken> {
        let work = rounds.iter().map(|round| self.work(round.batches[0].1.len())).sum::<usize>();
        let Learner { engines, options, plateau, parameters, .. } = self;
        let threads = if work < SHARED_WORK { 1 } else { team::threads() };
        let team = team::with_threads(threads.min(engines.len()), Team::gather);
        let rounds = rounds.iter().map(Round::slices).collect::<Result<Vec<_>>>()?;
        let weigh = |batch: &Slices| -> Result<Weighed> {
            let weights = weigh(&options.loss, parameters, batch.variances, batch.rows)?;
            let coefficients = weights.coefficients.iter().map(|&c| c as f32).collect();
            Ok(Weighed { coefficients, report: StepReport::new(&weights, batch.rows.len(), 0.0) })
        };
        let is_shared = rounds.iter().all(|round| round.len() == 1);
        let mut shared: Vec<_> = if is_shared { rounds.iter().map(|round| (round, None)).collect() } else { vec![] };
        team.each(&mut shared, |(round, weighed)| *weighed = Some(weigh(&round[0])));

        let mut flats = engines.iter().map(|engine| engine.flat(model)).collect::<Result<Vec<_>>>()?;
        let lent = engines.iter_mut().zip(&mut flats).map(|(engine, flat)| engine.lend(flat));
        let lent = lent.collect::<Result<Vec<_>>>()?;
        let runners = lent.into_iter().enumerate().map(|(number, network)| {
            let before = Some(network.keep()?);
            Ok(Runner { number, network, before, reports: vec![], fault: None })
        });
        let idle = Mutex::new(runners.collect::<Result<Vec<_>>>()?);
        // The first round that some network cannot take: none of those from there on is wanted.
        let end = AtomicUsize::new(rounds.len());
        let slice = if team.size() == 1 { rounds.len() } else { rounds.len().div_ceil(SLICES) };
        let step = |runner: &mut Runner, team: &Team| -> Result<StepReport> {
            let at = runner.reports.len();
            let batch = &rounds[at][runner.number.min(rounds[at].len() - 1)];
            let own;
            let weighed = match shared.get(at) {
                Some((_, Some(Ok(weighed)))) => weighed,
                _ => {
                    own = weigh(batch)?;
                    &own
                }
            };
            let rate = learning_rate(options, plateau, epoch, runner.network.steps());
            let report = StepReport { learning_rate: rate, ..weighed.report };
            if report.samples_used == 0 {
                return Ok(report);
            }
            fault::point();
            let Slices { features, labels, rows, .. } = *batch;
            let batch = BatchSlices { features, labels, rows, coefficients: &weighed.coefficients };
            Ok(StepReport { loss: runner.network.step(&batch, rate, team)?, ..report })
        };
        // A thread takes the network that is furthest behind, and gives it back after a slice.
        let drain = |team: &Team| loop {
            let mut runner = {
                let mut idle = idle.lock();
                let behind = (0..idle.len()).min_by_key(|&at| idle[at].reports.len());
                match behind.filter(|&at| idle[at].reports.len() < end.load(Relaxed)) {
                    Some(at) => idle.swap_remove(at),
                    None => return,
                }
            };
            let until = runner.reports.len() + slice;
            while runner.reports.len() < until.min(end.load(Relaxed)) {
                let cause = match step(&mut runner, team) {
                    Ok(report) if report.loss.is_finite() => {
                        runner.reports.push(report);
                        continue;
                    }
                    Ok(report) => Cause::Loss(report),
                    Err(error) => Cause::Error(error),
                };
                runner.fault = Some(cause);
                end.fetch_min(runner.reports.len(), Relaxed);
            }
            idle.lock().push(runner);
        };
        let each = threads / team.size();
        team.each(&mut vec![(); team.size()], |()| drain(&team::with_threads(each, Team::gather)));
        let mut runners = idle.into_inner();
        runners.sort_by_key(|runner| runner.number);
        let end = end.into_inner();
        let at_end = runners.iter_mut().find(|runner| runner.fault.is_some() && runner.reports.len() == end);
        let fault = at_end.and_then(|runner| Some(Fault { network: runner.number, cause: runner.fault.take()? }));
        if fault.is_none() {
            runners.iter_mut().for_each(|runner| runner.before = None);
        }
        Ok(Taken { reports: runners.iter_mut().map(|runner| std::mem::take(&mut runner.reports)).collect(), fault })
    }
}

impl Drop for Runner<'_> {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            self.network.put_back(before);
        }
    }
}

impl Round<'_> {
    /// The mini-batch of network `number`.
    fn of(&self, number: usize) -> (&NormalizedData, &[usize]) {
        let (data, rows) = &self.batches[number.min(self.batches.len() - 1)];
        (data, rows)
    }

    fn slices(&self) -> Result<Vec<Slices<'_>>> {
        self.batches.iter().map(Slices::new).collect()
    }
}

impl<'a> Slices<'a> {
    fn new((data, rows): &'a (MaybeOwned, Vec<usize>)) -> Result<Self> {
        Ok(Slices {
            features: values(data.features.numbers()?)?,
            labels: values(&data.labels)?,
            variances: data.variances.as_deref(),
            rows,
        })
    }
}

/// What a step of all networks did: the means over those that took one.
pub(super) fn mean_report<'a>(reports: impl Iterator<Item = &'a StepReport> + Clone) -> StepReport {
    let mut mean = reports.clone().next().copied().unwrap_or_default();
    // Equal numbers have themselves as their mean, infinite ones too.
    let add = |mean: &mut f64, value: f64, count: usize| {
        if *mean != value && mean.is_finite() {
            *mean += (value - *mean) / count as f64;
        }
    };
    for (before, report) in reports.filter(|report| report.samples_used > 0).enumerate() {
        if before == 0 {
            mean = *report;
            continue;
        }
        add(&mut mean.loss, report.loss, before + 1);
        add(&mut mean.effective_batch_size, report.effective_batch_size, before + 1);
        add(&mut mean.epsilon, report.epsilon, before + 1);
        mean.samples_used = mean.samples_used.max(report.samples_used);
    }
    mean
}
