//! The command line: flags become a description, and the library does the rest.

mod output;
mod own_data;

use biv::data::{FaceOptions, draw_faces, left_out_note};
use biv::experiment::{Config, Outcome, Progress, Stage, Sweep, overlay, read_value, run, table};
use biv::train::distributed::DistributedOptions;
use biv::{Error, Result};
use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Trains regression networks on labels of known noise.
#[derive(Parser)]
#[command(name = "biv", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one experiment, from the published settings strings or from a file.
    Run(Box<RunArgs>),
    /// Runs a grid of experiments, several at a time, and prints mean and spread.
    Sweep(SweepArgs),
    /// Trains a model on a CSV file, with error bars; known noise of its labels makes it better.
    Fit(Box<own_data::FitArgs>),
    /// Predicts the rows of a CSV file with a model of `biv fit`.
    Predict(own_data::PredictArgs),
    /// Prints what residuals of any model say of the variances that are known of its labels' noise.
    Variances(own_data::VariancesArgs),
    /// Draws simple faces whose age shows, in files named like UTKFace's.
    Faces(FacesArgs),
}

/// Where and how, for runs and sweeps.
#[derive(Args)]
struct Common {
    /// The file or folder of the data, or a folder above it
    #[arg(long, env = "BIV_DATA_DIR")]
    data: Option<PathBuf>,
    /// cpu, cuda, cuda:N or auto
    #[arg(long)]
    device: Option<String>,
    /// Threads inside one operation [default: the cores; in a sweep, the cores by the jobs]
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..=1024))]
    threads: Option<i32>,
    /// The number of epochs
    #[arg(long)]
    epochs: Option<u64>,
    /// How often the test set is evaluated: '2 epochs' or '50 steps'
    #[arg(long)]
    eval_every: Option<String>,
    /// Seconds between checkpoints
    #[arg(long)]
    checkpoint_seconds: Option<f64>,
    /// Sets any field of the description: dataset.test_size=500, loss={"kind":"mse"}
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// Prints what would be run, with every default, and runs nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args)]
struct RunArgs {
    /// A description in TOML or JSON, instead of the settings strings
    #[arg(conflicts_with_all = ["experiment_settings", "model_settings", "noise_settings", "params_settings", "parameters", "extra_exp"])]
    config: Option<PathBuf>,
    /// tag,seed,dataset,normalize,train_size
    #[arg(long = "experiment_settings", value_name = "STRING", allow_hyphen_values = true)]
    experiment_settings: Option<String>,
    /// model,loss[,value]
    #[arg(long = "model_settings", value_name = "STRING", allow_hyphen_values = true)]
    model_settings: Option<String>,
    /// False, or True,uniform|binary_uniform|gamma
    #[arg(long = "noise_settings", value_name = "STRING", allow_hyphen_values = true)]
    noise_settings: Option<String>,
    /// boundaries|alphabeta|meanvar|meanvar_avg[,p[,X]]
    #[arg(long = "params_settings", value_name = "STRING", allow_hyphen_values = true)]
    params_settings: Option<String>,
    /// First all first parameters, then all second ones
    #[arg(long = "parameters", value_name = "STRING", allow_hyphen_values = true)]
    parameters: Option<String>,
    /// batch_size,delta,normalize_loss,learning_rate [default: 256,0,True,0.01]
    #[arg(long = "extra_exp", value_name = "STRING", allow_hyphen_values = true)]
    extra_exp: Option<String>,
    #[command(flatten)]
    common: Common,
    /// The run directory [default: runs/TAG-seedN]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Goes on with the run that is in the run directory, if there is one
    #[arg(long)]
    resume: bool,
    /// Goes on even with other data than the run began with; its results then say so
    #[arg(long, requires = "resume")]
    accept_data: bool,
}

#[derive(Args)]
struct SweepArgs {
    /// The grid, in TOML or JSON
    grid: PathBuf,
    #[command(flatten)]
    common: Common,
    /// The folder of the runs; what is complete there is not run again [default: runs/NAME of the grid]
    #[arg(long)]
    out: Option<PathBuf>,
    /// How many runs go on at the same time [default: the cores]
    #[arg(long)]
    jobs: Option<usize>,
    /// Runs only this one, counted from 0: for the tasks of a cluster's array job
    #[arg(long)]
    only: Option<usize>,
    /// Prints the number of runs, and runs nothing
    #[arg(long)]
    count: bool,
    /// Prints the table of the runs that are complete, and runs nothing
    #[arg(long)]
    table: bool,
    /// Takes runs that began with other data; their results then say so
    #[arg(long)]
    accept_data: bool,
}

#[derive(Args)]
struct FacesArgs {
    /// The folder, which is created
    folder: PathBuf,
    /// How many
    #[arg(long, default_value_t = 200)]
    count: usize,
    /// Height and width in pixels
    #[arg(long, default_value_t = 200)]
    size: u32,
    /// The same seed draws the same faces
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Set by Ctrl-C and SIGTERM: the run ends after its mini-batch, with a checkpoint. The second one ends it at once.
static STOP: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    // Without a handler the program just dies, and a run goes on from its last checkpoint.
    let _ = ctrlc::set_handler(|| {
        if STOP.swap(true, Relaxed) {
            std::process::exit(130);
        }
    });
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => return tell(&told),
    };
    let done = match cli.command {
        Command::Run(arguments) => run_one(&arguments),
        Command::Sweep(arguments) => sweep(&arguments),
        Command::Fit(arguments) => own_data::fit(&arguments),
        Command::Predict(arguments) => own_data::predict(&arguments),
        Command::Variances(arguments) => own_data::variances(&arguments),
        Command::Faces(FacesArgs { folder, count, size, seed }) => {
            draw_faces(&folder, &FaceOptions { count, size, seed }).map(|()| ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|error| {
        output::note(format_args!("biv: {error}"));
        ExitCode::FAILURE
    })
}

/// The help or version that was asked for, or what is wrong with the arguments.
fn tell(told: &clap::Error) -> ExitCode {
    let text = told.render();
    if told.use_stderr() {
        output::note(text);
    } else if let Err(error) = output::result(text) {
        output::note(format_args!("biv: {error}"));
        return ExitCode::FAILURE;
    }
    u8::try_from(told.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

impl Common {
    /// The fields of a description that the flags set.
    fn fields(&self) -> Result<Value> {
        let eval_every = self.eval_every.as_deref().map(cadence).transpose()?;
        let fields = [
            ("data", self.data.as_ref().map(|path| json!(path))),
            ("device", self.device.as_ref().map(|device| json!(device))),
            ("epochs", self.epochs.map(|epochs| json!(epochs))),
            ("eval_every", eval_every),
            ("checkpoint_seconds", self.checkpoint_seconds.map(|seconds| json!(seconds))),
        ];
        let fields = fields.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?)));
        let mut fields = Value::Object(fields.collect());
        for text in &self.set {
            let (path, value) = text
                .split_once('=')
                .ok_or_else(|| Error::config("--set", format!("is '{text}', must be like dataset.test_size=500")))?;
            // What is no JSON is a text.
            let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
            overlay(&mut fields, path.rsplit('.').fold(value, |value, name| json!({ name: value })));
        }
        Ok(fields)
    }
}

/// '50 steps', '2 epochs' or '2' as a description has them.
fn cadence(text: &str) -> Result<Value> {
    let digits = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = text[..text.len() - digits.len()].parse::<u64>();
    let unit = match digits.trim() {
        "" | "epoch" | "epochs" => Some("epochs"),
        "step" | "steps" => Some("steps"),
        _ => None,
    };
    match (number, unit) {
        (Ok(number), Some(unit)) => Ok(json!({ unit: number })),
        _ => Err(Error::config("--eval-every", format!("is '{text}', must be like '2 epochs' or '50 steps'"))),
    }
}

fn run_one(arguments: &RunArgs) -> Result<ExitCode> {
    let settings = [
        ("experiment_settings", &arguments.experiment_settings),
        ("model_settings", &arguments.model_settings),
        ("noise_settings", &arguments.noise_settings),
        ("params_settings", &arguments.params_settings),
        ("parameters", &arguments.parameters),
        ("extra_exp", &arguments.extra_exp),
    ];
    let given = settings.into_iter().filter_map(|(name, value)| Some((name.to_string(), json!(value.as_ref()?))));
    let given: Map<String, Value> = given.collect();
    let mut description = match &arguments.config {
        Some(path) => read_value(path)?,
        None if given.is_empty() => {
            let needed = "a description: a file, or --experiment_settings and the others (see biv run --help)";
            return Err(Error::InvalidArgument(format!("biv run needs {needed}")));
        }
        None => json!({ "settings": given }),
    };
    overlay(&mut description, arguments.common.fields()?);
    if arguments.resume {
        overlay(&mut description, json!({"resume": true, "accept_data": arguments.accept_data}));
    }
    if let Some(out) = &arguments.out {
        overlay(&mut description, json!({ "out": out }));
    }
    // Without an `out`, the folder is named after the run: until its name is known, the parent stands for it.
    let has_out = description.get("out").is_some();
    if !has_out {
        overlay(&mut description, json!({ "out": "runs" }));
    }
    // What torchrun or srun has started several times is one run.
    if description.get("distributed").is_none() && DistributedOptions::default().is_for_several() {
        overlay(&mut description, json!({ "distributed": {} }));
    }
    let mut config = Config::from_value(description)?;
    if !has_out {
        config.out = Some(PathBuf::from(format!("runs/{}-seed{}", config.tag, config.seed)));
    }
    if arguments.common.dry_run {
        return print_json(&config.to_value());
    }
    if let Some(threads) = arguments.common.threads {
        biv::torch::device::set_threads(threads)?;
    }
    // Of several processes that train together, one speaks.
    let speaks = config.distributed.as_ref().map_or(Ok(true), DistributedOptions::is_first)?;
    let mut reporter = Reporter::new(Stage::Training);
    let outcome = run(&config, &mut |progress| if speaks { reporter.show(progress) } else { stop_or_go() });
    reporter.finish();
    let text = outcome_text(&outcome?);
    if speaks {
        output::summary(text);
    }
    Ok(ExitCode::SUCCESS)
}

fn print_json(value: &Value) -> Result<ExitCode> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::Internal(error.to_string()))?;
    output::result(text + "\n")?;
    Ok(ExitCode::SUCCESS)
}

fn outcome_text(outcome: &Outcome) -> String {
    let Outcome { tag, seed, epochs, batches, last, best, .. } = outcome;
    let mut lines = vec![format!("{tag}, seed {seed}: {epochs} epochs, {batches} mini-batches")];
    if outcome.skipped > 0 {
        lines.push(format!("  {} mini-batches had no label below the cutoff: no step was taken", outcome.skipped));
    }
    lines.push(format!("  effective batch size  {:.1}", outcome.effective_batch_size));
    lines.push(format!("  errors on {}:", last.test_labels.describe("test labels")));
    for (name, errors) in [("at the end", last), ("at its best", best)] {
        lines.push(format!(
            "    {name:<11}  RMSE {:.4}  MAE {:.4}  normalised MSE {:.4}  (epoch {})",
            errors.rmse, errors.mae, errors.normalized_mse, errors.epoch
        ));
    }
    lines.extend(left_out_note(&outcome.left_out).map(|note| format!("  {note}")));
    lines.extend(outcome.accepted_data.iter().map(|difference| format!("  the data changed: {difference}")));
    lines.extend(outcome.out.iter().map(|out| format!("  {}", out.join("report.html").display())));
    lines.join("\n") + "\n"
}

fn sweep(arguments: &SweepArgs) -> Result<ExitCode> {
    let mut description = read_value(&arguments.grid)?;
    let name = arguments.grid.file_stem().unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = arguments.jobs.unwrap_or(cores);
    if description.get("out").is_none() || arguments.out.is_some() {
        let out = arguments.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(name));
        overlay(&mut description, json!({ "out": out }));
    }
    overlay(&mut description, json!({"base": arguments.common.fields()?, "jobs": jobs}));
    if arguments.accept_data {
        overlay(&mut description, json!({"base": {"accept_data": true}}));
    }
    let sweep = Sweep::from_value(&description)?;
    if arguments.count {
        output::result(format_args!("{}\n", sweep.cells().len()))?;
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.common.dry_run {
        return print_json(&sweep.cells().iter().map(|cell| cell.config.to_value()).collect());
    }

    let outcomes = if arguments.table {
        sweep.complete()
    } else {
        let part = arguments.only.map_or(Ok(sweep.clone()), |index| sweep.only(index))?;
        let threads = arguments.common.threads.unwrap_or((cores / jobs.clamp(1, part.cells().len())).max(1) as i32);
        biv::torch::device::set_threads(threads)?;
        let mut reporter = Reporter::new(Stage::Sweep);
        let outcomes = part.run(&mut |progress| reporter.show(progress));
        reporter.finish();
        outcomes?
    };
    if arguments.only.is_none() {
        sweep.write_summary(&outcomes)?;
    }
    let table = table(&outcomes).markdown();
    if arguments.table {
        output::result(table)?;
    } else {
        output::summary(table);
    }
    let failed: Vec<_> = outcomes.iter().filter_map(|cell| Some((cell, cell.error.as_ref()?))).collect();
    for (cell, error) in &failed {
        output::note(format_args!("biv: {}, seed {}: {error}", cell.variant, cell.seed));
    }
    let missing = outcomes.iter().filter(|cell| cell.outcome.is_none() && cell.error.is_none()).count();
    if missing > 0 {
        output::note(format_args!("biv: {missing} of {} runs are not complete", outcomes.len()));
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows progress on stderr: a bar on a terminal, else a line now and then.
struct Reporter {
    bar: Option<ProgressBar>,
    /// The stage whose beginnings and ends are all shown: in a sweep not the training of single runs.
    whole: Stage,
    stage: Option<Stage>,
    shown: Instant,
}

impl Reporter {
    fn new(whole: Stage) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}");
            ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Reporter { bar, whole, stage: None, shown: Instant::now() }
    }

    fn show(&mut self, progress: &Progress) -> ControlFlow<()> {
        if let Some(bar) = &self.bar {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
            bar.set_message(line(progress));
        } else {
            let begins_or_ends = self.stage != Some(progress.stage) || progress.done == progress.total;
            let single = progress.stage == Stage::Training && self.whole == Stage::Sweep;
            if begins_or_ends && !single || self.shown.elapsed() > Duration::from_secs(10) {
                output::note(format_args!("{}/{}  {}", progress.done, progress.total, line(progress)));
                self.shown = Instant::now();
            }
        }
        self.stage = Some(progress.stage);
        stop_or_go()
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn stop_or_go() -> ControlFlow<()> {
    if STOP.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// One line about the progress, without the count.
fn line(progress: &Progress) -> String {
    let mut parts = vec![match progress.stage {
        Stage::Loading => "images".to_string(),
        Stage::Training => format!("{}: epoch {}/{}", progress.run, progress.epoch, progress.epochs),
        Stage::Sweep => format!("runs, the last {}", progress.run),
    }];
    let rmse = format!("RMSE on {}", progress.test_labels.describe("test labels"));
    for (name, value) in [("loss", progress.loss), (&rmse, progress.rmse)] {
        if value.is_finite() {
            parts.push(format!("{name} {value:.4}"));
        }
    }
    if progress.samples_per_second.is_finite() {
        parts.push(format!("{:.0} samples/s", progress.samples_per_second));
    }
    if progress.seconds_left.is_finite() {
        let seconds = progress.seconds_left as u64;
        parts.push(format!("{}:{:02}:{:02} left", seconds / 3600, seconds / 60 % 60, seconds % 60));
    }
    parts.join("  ")
}
