//! The commands for a user's own CSV files: fit, predict, variances.

use crate::{Reporter, output, print_json, stop_or_go};
use biv::base::{files, options};
use biv::data::{CsvOptions, VarianceModel};
use biv::experiment::{CsvFit, CsvFitOutcome, Stage, fit_csv, predict_csv, read_columns};
use biv::model::Model;
use biv::train::distributed::DistributedOptions;
use biv::train::fit::FitOptions;
use biv::{Error, Result};
use clap::Args;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::process::ExitCode;

/// Which columns are the features.
#[derive(Args)]
struct FeatureArgs {
    /// The feature columns [default: all that have no other role]
    #[arg(long, value_name = "A,B,...", value_delimiter = ',')]
    features: Option<Vec<String>>,
    /// Cyclic feature columns with their periods: hour=24,month=12
    #[arg(long, value_name = "A=PERIOD,...", value_delimiter = ',', value_parser = period)]
    cyclic: Vec<(String, f64)>,
    /// What separates the fields [default: ,]
    #[arg(long)]
    delimiter: Option<char>,
    /// Leaves out rows with an empty field, instead of an error
    #[arg(long)]
    skip_missing: bool,
    /// What a category is that is none of the model's: an error, or zeros [default: error]
    #[arg(long, value_name = "WHAT", value_parser = ["error", "zeros"])]
    unseen_categories: Option<String>,
}

/// How noisy the labels are.
#[derive(Args)]
struct NoiseArgs {
    /// The column with the variance of a label's noise; as often as there are labels
    #[arg(long, value_name = "COLUMN", conflicts_with = "std")]
    variance: Vec<String>,
    /// Instead, the column with its standard deviation (standard error, margin of error)
    #[arg(long, value_name = "COLUMN")]
    std: Vec<String>,
    /// What standard deviations are divided by: 1.645 for margins of error at 90 %
    #[arg(long, value_name = "NUMBER", requires = "std")]
    error_divisor: Option<f64>,
}

#[derive(Args)]
pub struct FitArgs {
    /// The CSV file, with a header
    data: PathBuf,
    /// A label column; may be given several times
    #[arg(long, value_name = "COLUMN", required = true)]
    label: Vec<String>,
    #[command(flatten)]
    noise: NoiseArgs,
    #[command(flatten)]
    features: FeatureArgs,
    /// Feature columns that are categories
    #[arg(long, value_name = "A,B,...", value_delimiter = ',')]
    one_hot: Vec<String>,
    /// A column that says which rows belong together: they are held out together
    #[arg(long, value_name = "COLUMN")]
    group: Option<String>,
    /// A missing label says nothing, instead of being an error; its row's other labels count
    #[arg(long)]
    mask_missing: bool,
    /// Another file, on whose rows the model is evaluated at the end
    #[arg(long, value_name = "FILE")]
    test: Option<PathBuf>,
    /// How many networks [default: 5]; 1 is cheaper
    #[arg(long)]
    members: Option<usize>,
    /// The number of epochs [default: 100]
    #[arg(long)]
    epochs: Option<u64>,
    /// Rows in a mini-batch [default: 256]
    #[arg(long)]
    batch_size: Option<usize>,
    /// Adam's learning rate [default: 0.001]
    #[arg(long)]
    learning_rate: Option<f64>,
    /// The widths of the hidden layers
    #[arg(long, value_delimiter = ',', default_value = "100,50")]
    hidden: Vec<usize>,
    /// The seed of everything that is random [default: 0]
    #[arg(long)]
    seed: Option<u64>,
    /// cpu, cuda, cuda:N or auto [default: cpu]
    #[arg(long)]
    device: Option<String>,
    /// Threads [default: the cores]
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..=1024))]
    threads: Option<i32>,
    /// The folder of the results [default: fits/NAME of the file]
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Args)]
pub struct PredictArgs {
    /// The model that `biv fit` saved
    model: PathBuf,
    /// The CSV file with the features; it needs no labels
    data: PathBuf,
    /// The file of the columns [default: columns.json beside the model]
    #[arg(long, value_name = "FILE", conflicts_with = "features")]
    columns: Option<PathBuf>,
    #[command(flatten)]
    features: FeatureArgs,
    /// The file of the predictions [default: they are printed]
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Args)]
pub struct VariancesArgs {
    /// The CSV file, with a header
    data: PathBuf,
    /// The column of the residuals, label minus prediction, of rows that training has not seen
    #[arg(long, value_name = "COLUMN")]
    residual: String,
    #[command(flatten)]
    noise: NoiseArgs,
    /// What separates the fields [default: ,]
    #[arg(long)]
    delimiter: Option<char>,
}

/// 'hour=24'.
fn period(text: &str) -> std::result::Result<(String, f64), String> {
    let parts = text.rsplit_once('=').and_then(|(name, period)| Some((name.to_string(), period.parse().ok()?)));
    parts.ok_or_else(|| "must be like hour=24".into())
}

/// The options in which `fields` have values, by name.
fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Map<String, Value> {
    fields.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?))).collect()
}

impl FeatureArgs {
    fn fields(&self) -> Map<String, Value> {
        let cyclic = self.cyclic.iter().map(|(name, period)| (name.clone(), json!(period)));
        object([
            ("features", self.features.as_ref().map(|names| json!(names))),
            ("cyclic", (!self.cyclic.is_empty()).then(|| Value::Object(cyclic.collect()))),
            ("delimiter", self.delimiter.map(|delimiter| json!(delimiter))),
            ("skip_missing", self.skip_missing.then_some(json!(true))),
            ("unseen_categories", self.unseen_categories.as_ref().map(|what| json!(what))),
        ])
    }
}

impl NoiseArgs {
    fn fields(&self) -> Map<String, Value> {
        object([
            ("variances", Some(json!(self.variance))),
            ("standard_errors", Some(json!(self.std))),
            ("error_divisor", self.error_divisor.map(|divisor| json!(divisor))),
        ])
    }
}

/// The options of the columns that all these fields make.
fn columns<const N: usize>(parts: [Map<String, Value>; N]) -> Result<CsvOptions> {
    options::from_value("csv", &Value::Object(parts.into_iter().flatten().collect()))
}

pub fn fit(arguments: &FitArgs) -> Result<ExitCode> {
    let rest = object([
        ("labels", Some(json!(arguments.label))),
        ("one_hot", Some(json!(arguments.one_hot))),
        ("group", arguments.group.as_ref().map(|name| json!(name))),
        ("missing_labels", arguments.mask_missing.then(|| json!("mask"))),
    ]);
    let given = object([
        ("members", arguments.members.map(|members| json!(members))),
        ("epochs", arguments.epochs.map(|epochs| json!(epochs))),
        ("batch_size", arguments.batch_size.map(|rows| json!(rows))),
        ("learning_rate", arguments.learning_rate.map(|rate| json!(rate))),
        ("seed", arguments.seed.map(|seed| json!(seed))),
        ("device", arguments.device.as_ref().map(|device| json!(device))),
        // What torchrun or srun has started several times is one fit.
        ("distributed", DistributedOptions::default().is_for_several().then(|| json!({}))),
    ]);
    let options: FitOptions = options::from_value("fit", &Value::Object(given))?;
    if let Some(threads) = arguments.threads {
        biv::torch::device::set_threads(threads)?;
    }
    let name = arguments.data.file_stem().unwrap_or_default();
    let job = CsvFit {
        data: arguments.data.clone(),
        columns: columns([arguments.noise.fields(), arguments.features.fields(), rest])?,
        test: arguments.test.clone(),
        hidden: arguments.hidden.clone(),
        options,
        out: arguments.out.clone().unwrap_or_else(|| PathBuf::from("fits").join(name)),
    };
    // Of several processes that fit together, one speaks.
    let speaks = job.options.distributed.as_ref().map_or(Ok(true), DistributedOptions::is_first)?;
    let mut reporter = Reporter::new(Stage::Training);
    let outcome = fit_csv(&job, &mut |progress| if speaks { reporter.show(progress) } else { stop_or_go() });
    reporter.finish();
    let text = summary(&outcome?, &job.columns.labels);
    if speaks {
        output::summary(text);
    }
    Ok(ExitCode::SUCCESS)
}

fn summary(outcome: &CsvFitOutcome, labels: &[String]) -> String {
    let CsvFitOutcome { report, labels: kind, test, page, .. } = outcome;
    let mut lines = vec![format!("{} rows, stopped at epoch {} of {}", report.rows, report.stop_epoch, report.epochs)];
    for (output, label) in report.outputs.iter().zip(labels) {
        let model = &output.variance_model;
        let [verdict, meaning] = model.verdict.in_words();
        let epsilon = if model.epsilon.is_finite() { format!("{:.4e}", model.epsilon) } else { "infinite".into() };
        let (middle, most) = (100.0 * output.coverage_68, 100.0 * output.coverage_95);
        lines.extend([
            label.clone(),
            format!("  RMSE on held-out rows, {}  {:.4}", kind.describe("labels"), output.rmse),
            format!("  verdict   {verdict}: {meaning}"),
            format!("  scale     {:.4}", model.scale),
            format!("  epsilon   {epsilon}"),
            format!("  tau       {:.4}", model.tau2.sqrt()),
            format!("  coverage  {middle:.1} % within 68 % error bars, {most:.1} % within 95 %"),
        ]);
    }
    lines.extend(test.iter().map(|test| {
        let labels = test.test_labels.describe("labels");
        format!("on the test file, {labels}: RMSE {:.4}  MAE {:.4}", test.rmse, test.mae)
    }));
    lines.extend(report.warnings.iter().map(|warning| format!("warning: {warning}")));
    lines.push(page.display().to_string());
    lines.join("\n") + "\n"
}

pub fn predict(arguments: &PredictArgs) -> Result<ExitCode> {
    let PredictArgs { model: path, data, features, out, .. } = arguments;
    let model = Model::load(path)?;
    let columns = if features.features.is_some() {
        columns([object([("labels", Some(json!([])))]), features.fields()])?
    } else {
        let mut kept =
            serde_json::to_value(read_columns(&model, path, arguments.columns.as_ref())?).unwrap_or_default();
        biv::experiment::overlay(&mut kept, Value::Object(features.fields()));
        options::from_value("csv", &kept)?
    };
    let text = predict_csv(&model, data, &columns)?;
    match out {
        Some(path) => files::replace(path, text.as_bytes())?,
        None => output::result(text)?,
    }
    Ok(ExitCode::SUCCESS)
}

pub fn variances(arguments: &VariancesArgs) -> Result<ExitCode> {
    let rest = object([
        ("labels", Some(json!([arguments.residual]))),
        ("delimiter", arguments.delimiter.map(|delimiter| json!(delimiter))),
    ]);
    let (residuals, variances) = columns([arguments.noise.fields(), rest])?.read_labels(&arguments.data)?;
    let needed = || Error::InvalidArgument("biv variances needs --variance COLUMN or --std COLUMN".into());
    let model = VarianceModel::fit(&residuals, &variances.ok_or_else(needed)?)?;
    if let Some(warning) = model.warning() {
        output::note(format_args!("biv: {}", warning.to_string_lossy()));
    }
    print_json(&serde_json::to_value(&model).map_err(|error| Error::Internal(error.to_string()))?)
}
