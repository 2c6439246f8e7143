//! From data to a finished model in one call: weights, epochs and error bars that held-out rows choose.
//!
//! Each of several networks is trained on the rows outside a fold of its own, so that every row has a residual that no
//! training has seen. After each epoch the variance model of all these residuals gives the epsilon of the next one; in
//! the end their loss says which epoch to keep, and the variance model there how wide the error bars are. The model is
//! the mean of the networks.
//!
//! Several processes share the networks out among them, and have the same result, with the bits of one process.

mod checkpoint;
mod division;
mod folds;
mod members;
mod options;
mod report;

pub use options::{FitOptions, default_network};
pub use report::{Coverage, EpochModel, FitEpoch, FitReport, OutputReport, ResidualGroup};

use super::distributed::{Fact, facts_of_data, facts_of_options};
use super::first_loss::check_labels;
use super::held_out::HeldOut;
use super::loss::Loss;
use super::trainer::labelled;
use crate::base::memory::{collect, filled};
use crate::data::{Dataset, LabelStatistics, Normalization, VarianceModel, Verdict};
use crate::model::{ErrorBars, Model, ModelOptions};
use crate::torch::{Precision, device};
use crate::{Error, Result};
use checkpoint::Checkpoint;
use division::Division;
use folds::{folds, units};
use members::{Crew, Member};
use std::ops::ControlFlow;
use std::sync::Arc;

/// With fewer rows nothing is learnt of the variances.
const FEWEST_ROWS: usize = 30;

/// Into so many folds are the rows cut of which a single network holds some out.
const PARTS: usize = 10;

/// A fit that stops before the end trains once more for this part of its epochs: on all rows, there are more steps in
/// each.
const FEWER: f64 = 0.7;

/// How far a fit has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FitProgress {
    /// Whether the final network of `members` 1 is trained, on all rows.
    pub is_final: bool,
    /// Epochs completed.
    pub epoch: u64,
    /// Of how many.
    pub epochs: u64,
    /// Mini-batches taken in these epochs, of all networks.
    pub steps: u64,
    /// Of how many.
    pub total_steps: u64,
    /// The last loss on held-out rows, in normalised units; NaN before the first.
    pub held_out_loss: f64,
    /// The last training epsilon in the square of the labels' unit, of the first output: infinite for equal weights, NaN
    /// before the first.
    pub epsilon: f64,
}

/// Hears some ten times a second how far a fit has come, and after each epoch. It breaks to stop the fit.
pub type FitWatch<'a> = &'a mut dyn FnMut(&FitProgress) -> ControlFlow<()>;

/// What stays the same in a fit.
struct Plan<'a> {
    network: &'a ModelOptions,
    options: &'a FitOptions,
    data: &'a Dataset,
    /// Which rows of the caller's data set these are, where they are not all of them.
    numbers: Option<Vec<usize>>,
    normalization: Normalization,
    /// Of the labels, in normalised units: 0 where it is unknown, infinite for masked labels.
    noise: Vec<f64>,
    loss: Loss,
    division: Division,
}

/// A fit in progress.
struct State {
    /// The networks that this process trains.
    members: Vec<Member>,
    held_out: HeldOut,
    history: Vec<FitEpoch>,
    /// Of the stop.
    training_epsilons: Vec<f64>,
    /// Whether the network in training is the final one of a fit of one.
    is_final: bool,
}

/// Trains a model of networks `network` on `data`; what is said of the rest in `options`. With `distributed` in them each
/// process calls it, with the same arguments.
///
/// # Errors
/// [`Error::InvalidConfig`] for illegal options; [`Error::Shape`] when network and data do not fit;
/// [`Error::InvalidArgument`] for fewer rows or groups than folds, and for a checkpoint of another fit;
/// [`Error::Cancelled`] when `watch` breaks: with a checkpoint, the fit can go on from there; [`Error::Numerical`],
/// [`Error::OutOfMemory`], [`Error::Device`]. Of several processes, all get an error where one does, most of them
/// [`Error::Distributed`], which names that one.
pub fn fit(
    network: &ModelOptions,
    data: &Dataset,
    options: &FitOptions,
    watch: FitWatch,
) -> Result<(Model, FitReport)> {
    options.validate()?;
    let division = Division::new(options.distributed.as_ref())?;
    let masked_labels = data.masked();
    let whole = data;
    let (data, numbers, normalization, noise) = division.together(|| {
        let (data, numbers) = labelled(whole)?;
        let normalization = Normalization::fit(&data, LabelStatistics::Labels);
        check_labels(whole, &normalization)?;
        let noise = normalization.noise(&data)?;
        let facts = if options.distributed.is_some() { facts(network, &data, options)? } else { vec![] };
        Ok(((data, numbers, normalization, noise), facts))
    })?;
    let informed = data.variances().is_some() && data.rows() >= FEWEST_ROWS;
    let loss = if options.loss.needs_variances() && !informed { Loss::Mse {} } else { options.loss.clone() };
    let plan = Plan { network, options, data: &data, numbers, normalization, noise, loss, division };
    let mut checkpoint = Checkpoint::open(&plan)?;
    let mut state = plan.division.all_or_none(|| {
        let mut state = plan.start()?;
        if let Some(saved) = &checkpoint {
            saved.restore(&plan, &mut state)?;
        }
        Ok(state)
    })?;
    if !state.is_final {
        let epochs = plan.epochs();
        plan.run(&mut state, epochs, &mut checkpoint, watch)?;
    }
    let stop = state.held_out.stop_epoch();
    let mut final_epochs = None;
    if options.members == 1 {
        let epochs =
            if stop == state.held_out.epoch() { options.epochs } else { ((FEWER * stop as f64).round() as u64).max(1) };
        final_epochs = Some(epochs);
        if !state.is_final {
            state.training_epsilons = state.held_out.final_epsilons();
            state.members = plan.final_members(&state.training_epsilons)?;
            state.is_final = true;
        }
        plan.run(&mut state, epochs, &mut checkpoint, watch)?;
    } else if stop < state.held_out.epoch() {
        for member in &mut state.members {
            member.trainer.model().lock().put_back(&member.kept)?;
        }
    }
    let State { members, held_out, history, training_epsilons, .. } = state;
    let model = plan.combined(members)?;
    let at_stop = held_out.at_stop();
    let (model, mean_spread) = plan.with_error_bars(model, &at_stop.1)?;
    let outputs = data.outputs();
    let scale = &plan.normalization.label_std;
    let output = |at: usize| {
        OutputReport::new(
            &at_stop,
            held_out.variances(),
            [at, outputs],
            training_epsilons[at],
            mean_spread[at],
            scale[at],
        )
    };
    let mut report = FitReport {
        rows: data.rows(),
        masked_labels,
        members: options.members,
        batch_size: plan.batch_size(),
        epochs: held_out.epoch(),
        best_epoch: held_out.best_epoch(),
        stop_epoch: stop,
        final_epochs,
        outputs: (0..outputs).map(output).collect(),
        warnings: vec![],
        history,
        loss: plan.loss.clone(),
    };
    report.warnings = warnings(&report, &plan);
    Ok((model, report))
}

/// What must be the same on all processes.
fn facts(network: &ModelOptions, data: &Dataset, options: &FitOptions) -> Result<Vec<Fact>> {
    let mut facts = vec![Fact::new("the library's version", env!("CARGO_PKG_VERSION"))];
    facts.extend(facts_of_options("model", network, &[])?);
    facts.extend(facts_of_options("fit", options, &["device", "checkpoint", "checkpoint_seconds", "distributed"])?);
    facts.push(Fact::new("whether there is a fit.checkpoint", options.checkpoint.is_some()));
    facts.extend(facts_of_data("the data", &data.fingerprint())?);
    Ok(facts)
}

/// What a user should know.
fn warnings(report: &FitReport, plan: &Plan) -> Vec<String> {
    let mut warnings = vec![];
    if plan.data.variances().is_none() {
        warnings
            .push("the labels have no variances: all weigh the same, and the error bars have the noise in them".into());
    } else if plan.loss != plan.options.loss {
        warnings.push(format!("{} rows are too few to learn from variances: all labels weigh the same", report.rows));
    }
    let count = report.outputs.len();
    for (at, output) in report.outputs.iter().enumerate() {
        let of = if count > 1 { format!("output {} of {count}: ", at + 1) } else { String::new() };
        if let Some(warning) = output.variance_model.warning() {
            warnings.push(format!("{of}{}", warning.to_string_lossy()));
        }
        if output.variance_model.verdict == Verdict::Mse {
            warnings.push(format!("{of}the error bars of true values have the labels' noise in them"));
        }
    }
    warnings
}

impl Plan<'_> {
    /// The number of rows in a mini-batch.
    fn batch_size(&self) -> usize {
        let kept = self.data.rows() - self.data.rows().div_ceil(self.options.members.max(2));
        self.options.batch_size.min(kept.max(1))
    }

    /// How many epochs the networks are trained for.
    fn epochs(&self) -> u64 {
        self.options.stretched(self.options.epochs)
    }

    /// How many networks are in training, on all processes.
    fn networks(&self, is_final: bool) -> usize {
        if is_final { 1 } else { self.options.members }
    }

    /// The networks before the first step.
    fn start(&self) -> Result<State> {
        let (rows, outputs, count) = (self.data.rows(), self.data.outputs(), self.options.members);
        let seed = self.options.seed;
        // Of each network, the rows that it does not see.
        let held: Vec<Vec<usize>> = if count > 1 {
            let folds = folds(self.data, &self.noise, count, seed)?;
            (0..count).map(|fold| (0..rows).filter(|&row| folds[row] == fold).collect()).collect()
        } else {
            let parts = units(self.data).clamp(2, PARTS);
            let folds = folds(self.data, &self.noise, parts, seed)?;
            let chosen = ((self.options.held_out * parts as f64).round() as usize).clamp(1, parts - 1);
            vec![(0..rows).filter(|&row| folds[row] < chosen).collect()]
        };
        let places =
            |rows: &[usize]| rows.iter().flat_map(|row| row * outputs..(row + 1) * outputs).collect::<Vec<_>>();
        // All labels in their own order, or those that the one network holds out.
        let observed = if count > 1 { (0..rows * outputs).collect() } else { places(&held[0]) };
        let noise = collect(observed.iter().map(|&at| self.noise[at]))?;
        let member = |number: usize| {
            let held = &held[number];
            let mut is_held = vec![false; rows];
            held.iter().for_each(|&row| is_held[row] = true);
            let seen: Vec<usize> = (0..rows).filter(|&row| !is_held[row]).collect();
            let data = self.data.subset(&seen)?;
            let places = if count > 1 { places(held) } else { (0..observed.len()).collect() };
            let mut member = self.member(number, &data, Some(self.data.subset(held)?), places)?;
            let number_of = |row: usize| self.numbers.as_ref().map_or(row, |numbers| numbers[row]);
            member.trainer.rows = Some(seen.into_iter().map(number_of).collect());
            Ok(member)
        };
        let mut members = self.division.own(count).map(member).collect::<Result<Vec<_>>>()?;
        let labels = collect(self.normalization.labels(self.data.labels()))?;
        let labels = observed.iter().map(|&at| labels[at]);
        let held_out = HeldOut::new(outputs, labels, noise, self.loss.auto_factor().unwrap_or(1.0))?;
        let epsilons = held_out.epsilons();
        members.iter_mut().for_each(|member| member.trainer.set_epsilons(&epsilons));
        Ok(State { members, held_out, history: vec![], training_epsilons: epsilons, is_final: false })
    }

    fn member(&self, number: usize, data: &Dataset, held: Option<Dataset>, places: Vec<usize>) -> Result<Member> {
        let options = self.options.trainer(number as u64, data.rows(), &self.loss);
        Member::new(number, self.network, &self.normalization, data, held, places, &options)
    }

    /// The network of a fit of one that is trained on all rows, where this process has it.
    fn final_members(&self, epsilons: &[f64]) -> Result<Vec<Member>> {
        let member = |number| {
            let mut member = self.member(number, self.data, None, vec![])?;
            member.trainer.set_epsilons(epsilons);
            Ok(member)
        };
        self.division.own(self.networks(true)).map(member).collect()
    }

    /// Trains all networks for `epochs` epochs, of which some may be over.
    fn run(&self, state: &mut State, epochs: u64, checkpoint: &mut Option<Checkpoint>, watch: FitWatch) -> Result<()> {
        let crew = Crew::new(&state.members)?;
        let batches = state.members.iter().map(|member| member.trainer.batches_per_epoch()).sum::<usize>();
        let trained = state.members.iter().map(|member| member.trainer.position().epoch).sum::<u64>();
        let mut sums = [batches as f64, trained as f64];
        self.division.sum(&mut sums)?;
        let [per_epoch, trained] = sums.map(|sum| sum as u64);
        let first = if state.is_final { trained } else { state.held_out.epoch() };
        for epoch in first + 1..=epochs {
            let progress = |state: &State, epoch: u64, left: u64| FitProgress {
                is_final: state.is_final,
                epoch,
                epochs,
                steps: (epoch * per_epoch).saturating_sub(left),
                total_steps: epochs * per_epoch,
                held_out_loss: state.history.last().map_or(f64::NAN, |last| last.held_out_loss),
                epsilon: state.history.last().map_or(f64::NAN, |last| last.models[0].training_epsilon),
            };
            let so_far = progress(state, epoch - 1, 0);
            let steps = epoch * per_epoch;
            let trained = self.division.train(&crew, &mut state.members, epoch, per_epoch, &mut |left| {
                watch(&FitProgress { steps: steps.saturating_sub(left), ..so_far })
            });
            let stopped = trained.and_then(|()| {
                self.after_epoch(state)?;
                let wants_stop = watch(&progress(state, epoch, 0)).is_break() && epoch < epochs;
                match self.division.any(wants_stop)? {
                    true => Err(Error::Cancelled(format!("the fit was stopped after epoch {epoch}"))),
                    false => Ok(()),
                }
            });
            if let Some(checkpoint) = checkpoint {
                let is_due = match &stopped {
                    Ok(()) => self.division.any(checkpoint.is_due())?,
                    Err(error) => matches!(error, Error::Cancelled(_)),
                };
                if is_due {
                    checkpoint.save(self, state)?;
                }
            }
            stopped?;
        }
        Ok(())
    }

    /// Takes what the residuals after an epoch show.
    fn after_epoch(&self, state: &mut State) -> Result<()> {
        let losses: Vec<_> = state.members.iter_mut().map(|member| std::mem::take(&mut member.losses)).collect();
        if state.is_final {
            return Ok(());
        }
        let (labels, count) = (state.held_out.variances().len(), self.options.members);
        // The squares, then of each network the sum of its losses and how many they are. What belongs to the networks of
        // other processes is 0 here.
        let mut squares = filled(labels + 2 * count, 0.0)?;
        for (member, (sum, steps)) in state.members.iter_mut().zip(losses) {
            let at = labels + 2 * member.number;
            squares[at..at + 2].copy_from_slice(&[sum, steps as f64]);
            for (&place, square) in member.places.iter().zip(std::mem::take(&mut member.squares)) {
                squares[place] = square;
            }
        }
        self.division.sum(&mut squares)?;
        let means = squares[labels..].chunks(2).map(|losses| losses[0] / losses[1].max(1.0));
        let training_loss = means.sum::<f64>() / count as f64;
        squares.truncate(labels);
        let observation = state.held_out.observe(squares);
        let epsilons = state.held_out.epsilons();
        let epoch = FitEpoch::new(&state.held_out, &epsilons, training_loss, observation.loss, &self.normalization);
        state.history.push(epoch);
        if observation.is_stop {
            state.training_epsilons.clone_from(&epsilons);
            for member in &mut state.members {
                member.kept = member.trainer.model().lock().snapshot()?;
            }
        }
        for member in &mut state.members {
            member.trainer.set_epsilons(&epsilons);
            member.trainer.observe(observation.loss);
        }
        Ok(())
    }

    /// The model with what the variance models `models` say of its errors, and the mean variance between its networks for each output, in
    /// normalised units.
    fn with_error_bars(&self, mut model: Model, models: &[VarianceModel]) -> Result<(Model, Vec<f64>)> {
        let outputs = self.data.outputs();
        let mut mean_spread = vec![0.0; outputs];
        let rows = self.data.features().rows();
        if let Some(spread) = model.predict_normalized(rows, &self.normalization, Precision::F32)?.spread {
            for row in spread.chunks(outputs) {
                mean_spread.iter_mut().zip(row).for_each(|(mean, spread)| *mean += spread / self.data.rows() as f64);
            }
        }
        if !model.predicts_variance() {
            model.set_error_bars(ErrorBars {
                scale: models.iter().map(|model| model.scale).collect(),
                tau2: models.iter().map(|model| model.tau2).collect(),
                mean_spread: mean_spread.clone(),
            });
        }
        Ok((model, mean_spread))
    }

    /// The model of all networks, those of the other processes too.
    fn combined(&self, members: Vec<Member>) -> Result<Model> {
        let model = |member: Member| {
            let model = Arc::clone(member.trainer.model());
            drop(member);
            let shared = || Error::Internal("a network of the fit is still in use".into());
            Arc::into_inner(model).map(parking_lot::Mutex::into_inner).ok_or_else(shared)
        };
        let own = members.into_iter().map(model).collect::<Result<Vec<_>>>()?;
        let device = device::resolve(&self.options.device)?;
        let read = |bytes: &[u8]| {
            let mut model = Model::from_bytes(bytes, &"a network of another process")?;
            model.to_device(device)?;
            Ok(model)
        };
        let mut models = self.division.gather(own, self.options.members, Model::to_bytes, read)?;
        if models.len() == 1 { Ok(models.swap_remove(0)) } else { Model::ensemble(self.network, models) }
    }
}
