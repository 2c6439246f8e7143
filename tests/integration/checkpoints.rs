//! Saved files: those that are damaged are refused, those of older versions are read, and a disk that
//! fills up takes nothing away.

use biv::Error;
use biv::base::options::parse;
use biv::data::Dataset;
use biv::experiment::{Config, Outcome, run};
use biv::model::Model;
use biv::train::trainer::Trainer;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// Rows by a formula of its own: they stay what they are whatever the library's generators become.
fn rows() -> Dataset {
    let unit = |row: usize, column: usize| ((row * 37 + column * 101 + row * row * 7) % 113) as f64 / 113.0;
    let features = (0..90).flat_map(|row| [0, 1, 2].map(|column| unit(row, column) as f32)).collect();
    let labels = (0..90).map(|row| 40.0 + 20.0 * unit(row, 0) - 30.0 * unit(row, 1) + 9.0 * unit(row, 3)).collect();
    let variances = (0..90).map(|row| 25.0 * unit(row, 4)).collect();
    Dataset::new(features, vec![3], labels, 1, Some(variances)).unwrap()
}

/// A trainer in the middle of its third epoch, with little at its default.
fn trained() -> Trainer {
    let network = r#"{"kind": "mlp", "inputs": 3, "hidden": [6, 4], "batch_norm": true, "seed": 5}"#;
    let options = r#"{
        "loss": {"kind": "biv", "epsilon": {"min_effective_batch_size": 8}}, "batch_size": 16, "drop_last": false,
        "learning_rate": 0.01, "adam": {"beta1": 0.8, "weight_decay": 0.001}, "seed": 11
    }"#;
    let model = Arc::new(Mutex::new(Model::new(&parse("model", network).unwrap()).unwrap()));
    let mut trainer = Trainer::new(model, Some(&rows()), &parse("trainer", options).unwrap()).unwrap();
    for _ in 0..15 {
        trainer.step().unwrap();
    }
    trainer.set_learning_rate(0.005).unwrap();
    trainer
}

fn is_corrupt<T>(loaded: biv::Result<T>) -> bool {
    matches!(loaded, Err(Error::Corrupt(_)))
}

/// Damages the file that `save` writes in every way that one byte can be missing, too many or wrong. `load`
/// must refuse each, or, where the byte had no meaning, give exactly what was saved, as `content` tells.
fn damage<T>(
    save: impl Fn(&Path) -> biv::Result<()>,
    load: impl Fn(&Path) -> biv::Result<T>,
    content: impl Fn(&T) -> Vec<u8>,
) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.biv");
    save(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let whole = content(&load(&path).unwrap());
    // Changed in place: a file system may put a file that was truncated and written on disk at once, in its own time.
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let mut without_meaning = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        // Each bit, all of them, and what makes white space of white space.
        for pattern in [1, 2, 4, 8, 16, 32, 64, 128, 255, b' ' ^ b'\n'] {
            file.write_all_at(&[byte ^ pattern], at as u64).unwrap();
            match load(&path) {
                Ok(loaded) => {
                    assert_eq!((byte, content(&loaded) == whole), (b' ', true), "byte {at} changed by {pattern}");
                    without_meaning += 1;
                }
                error => assert!(is_corrupt(error), "byte {at} changed by {pattern}"),
            }
        }
        file.write_all_at(&[byte], at as u64).unwrap();
    }
    file.set_len(bytes.len() as u64 + 1).unwrap();
    assert!(is_corrupt(load(&path)), "a byte too many");
    for length in (0..bytes.len()).rev() {
        file.set_len(length as u64).unwrap();
        assert!(is_corrupt(load(&path)), "cut to {length} bytes");
    }
    // The header's padding.
    assert!(without_meaning < 16, "{without_meaning} changes went unnoticed");
}

#[test]
fn no_damage_to_a_model_goes_unnoticed() {
    let trainer = trained();
    let features = rows().feature_values().unwrap().into_owned();
    damage(
        |path| trainer.model().lock().save(path),
        Model::load,
        |model| model.predict(&features).unwrap().iter().flat_map(|value| value.to_le_bytes()).collect(),
    );
}

#[test]
fn no_damage_to_a_checkpoint_goes_unnoticed() {
    let (trainer, data) = (trained(), rows());
    let again = tempfile::NamedTempFile::new().unwrap();
    damage(
        |path| trainer.save(path),
        |path| Trainer::load(path, Some(&data), None),
        |trainer| {
            trainer.save(again.path()).unwrap();
            std::fs::read(again.path()).unwrap()
        },
    );
}

/// The versions whose files are in `tests/golden/`: one for each change of the format.
const VERSIONS: [&str; 1] = ["0.1.0"];

/// What a version of the library recorded beside its files.
#[derive(Serialize, Deserialize)]
struct Recorded {
    /// The model's for the first rows.
    predictions: Vec<f64>,
    /// Of the steps that followed the checkpoint.
    losses: Vec<f64>,
    /// Where these steps led.
    epoch: u64,
    batch: usize,
}

/// Predictions of a model and continuation of a trainer.
fn record(model: &Model, trainer: &mut Trainer) -> Recorded {
    let predictions = model.predict(&rows().feature_values().unwrap()[..30]).unwrap();
    let losses = (0..10).map(|_| trainer.step().unwrap().loss).collect();
    let position = trainer.position();
    Recorded { predictions, losses, epoch: position.epoch, batch: position.batch }
}

fn golden(name: &str, version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}-{version}"))
}

/// Once for each version that changes the format:
/// `cargo test --release --test integration write_the_files -- --ignored`.
#[test]
#[ignore = "writes tests/golden/*-VERSION.*"]
fn write_the_files_of_this_version() {
    let file = |name| golden(name, concat!(env!("CARGO_PKG_VERSION"), ".biv"));
    let mut trainer = trained();
    trainer.save(&file("checkpoint")).unwrap();
    trainer.model().lock().save(&file("model")).unwrap();
    let recorded = record(&Model::load(&file("model")).unwrap(), &mut trainer);
    let text = serde_json::to_string_pretty(&recorded).unwrap() + "\n";
    std::fs::write(golden("checkpoint", concat!(env!("CARGO_PKG_VERSION"), ".json")), text).unwrap();
}

#[test]
fn files_of_every_version_are_read_and_go_on() {
    for version in VERSIONS {
        let text = std::fs::read(golden("checkpoint", &format!("{version}.json"))).unwrap();
        let expected: Recorded = serde_json::from_slice(&text).unwrap();
        let file = |name| golden(name, &format!("{version}.biv"));
        let mut trainer = Trainer::load(&file("checkpoint"), Some(&rows()), None).unwrap();
        assert_eq!((trainer.steps(), trainer.learning_rate()), (15, 0.005));
        let found = record(&Model::load(&file("model")).unwrap(), &mut trainer);
        // Another processor may round differently.
        let close = |(found, expected): (&f64, &f64)| (found - expected).abs() <= 1e-5 * expected.abs();
        assert!(found.predictions.iter().zip(&expected.predictions).all(close), "{:?}", found.predictions);
        assert!(found.losses.iter().zip(&expected.losses).all(close), "{:?}", found.losses);
        assert_eq!((found.losses.len(), found.predictions.len()), (expected.losses.len(), expected.predictions.len()));
        assert_eq!((found.epoch, found.batch), (expected.epoch, expected.batch));
    }
}

#[test]
fn a_file_of_a_later_version_is_called_that() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("later.biv");
    let rewrite = |name| {
        let mut bytes = std::fs::read(golden(name, "0.1.0.biv")).unwrap();
        let version = br#"\"version\":"#;
        let at = bytes.windows(version.len()).position(|window| window == version).unwrap() + version.len();
        assert_eq!(bytes[at], b'1');
        bytes[at] = b'9';
        std::fs::write(&path, bytes).unwrap();
    };
    let check = |error: Error| {
        let message = error.to_string();
        assert!(message.contains("later.biv: has format version 9, this library reads up to "), "{message}");
        assert!(matches!(error, Error::Corrupt(_)));
    };
    rewrite("model");
    check(Model::load(&path).unwrap_err());
    rewrite("checkpoint");
    check(Trainer::load(&path, Some(&rows()), None).unwrap_err());
}

/// A quick experiment with a checkpoint after every step.
fn experiment(out: &Path) -> serde_json::Value {
    json!({
        "tag": "full", "seed": 5, "epochs": 3, "batch_size": 32, "checkpoint_seconds": 0, "eval_every": {"steps": 5},
        "dataset": {"kind": "synthetic", "train_size": 300, "test_size": 100},
        "model": {"kind": "mlp", "hidden": [16], "batch_norm": true},
        "noise": {"distribution": {"kind": "gamma", "mean": 20, "variance": 400}},
        "resume": true, "out": out,
    })
}

fn run_in(out: &Path) -> biv::Result<Outcome> {
    run(&Config::from_value(experiment(out)).unwrap(), &mut |_| ControlFlow::Continue(()))
}

/// Runs the experiment with ever more room, as `limited` gives it, until it ends well. Each run that does not
/// says why and leaves a folder from which it goes on, once there is space, to the result of a run that never
/// stopped. Says how many runs did not.
fn fill_up(
    folder: &Path,
    room: impl Iterator<Item = u64>,
    limited: impl Fn(u64, &Path) -> Result<(), String>,
) -> usize {
    let whole = tempfile::tempdir().unwrap();
    let expected = run_in(whole.path()).unwrap();
    for (failures, room) in room.enumerate() {
        let out = folder.join(format!("run-{room}"));
        let Err(message) = limited(room, &out) else { return failures };
        assert!(message.contains("No space left") || message.contains("File too large"), "{room}: {message}");
        assert!(!out.join("result.json").exists(), "{room}");
        let checkpoint = out.join("checkpoint.biv");
        assert!(!checkpoint.exists() || Trainer::load(&checkpoint, None, None).is_ok(), "{room}");
        let resumed = run_in(&out).unwrap_or_else(|error| panic!("{room}: {error}"));
        assert_eq!(resumed.last.rmse, expected.last.rmse, "{room}");
        for name in ["train_losses.csv", "test_losses.csv", "train_outs.csv", "test_outs.csv", "checkpoint.biv"] {
            let content = |folder: &Path| std::fs::read(folder.join(name)).unwrap();
            assert!(content(&out) == content(whole.path()), "{room}: {name} differs");
        }
        std::fs::remove_dir_all(out).unwrap();
    }
    panic!("no run ended well");
}

#[test]
fn a_run_whose_files_may_not_grow_goes_on_when_they_may() {
    let folder = tempfile::tempdir().unwrap();
    let limited = |blocks: u64, out: &Path| {
        let config = folder.path().join("config.json");
        std::fs::write(&config, experiment(out).to_string()).unwrap();
        // The limit's signal is ignored: what is left is an error of the system call.
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" run \"$1\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_biv")]).arg(&config).stdin(Stdio::null());
        let output = command.output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(0 | 1)), "{}: {complaint}", output.status);
        if output.status.success() { Ok(()) } else { Err(complaint) }
    };
    let failures = fill_up(folder.path(), (0..20).map(|doubled| 1 << doubled), limited);
    assert!(failures > 3, "{failures}");
}

#[test]
#[ignore = "needs a tmpfs of its own, which root may mount: tests/optional.sh"]
fn a_run_on_a_disk_that_fills_up_goes_on_when_there_is_space() {
    let disk = tempfile::tempdir().unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(disk.path()).output();
    assert!(mount.unwrap().status.success());
    let filler = disk.path().join("filler");
    let limited = |room: u64, out: &Path| {
        std::fs::write(&filler, vec![0; ((1 << 20) - room) as usize]).unwrap();
        let result = run_in(out).map(|_| ()).map_err(|error| {
            assert!(matches!(error, Error::Io { .. }), "{error:?}");
            error.to_string()
        });
        std::fs::remove_file(&filler).unwrap();
        result
    };
    let failures = std::panic::catch_unwind(|| fill_up(disk.path(), (1..).map(|pages| pages * 8192), limited));
    assert!(Command::new("umount").arg(disk.path()).status().unwrap().success());
    assert!(failures.as_ref().is_ok_and(|&failures| failures > 8), "{failures:?}");
}
