//! Optimisers, schedules and clipping in whole trainings: their rates, exact resumption, and what is refused.

use crate::common::{epoch, model, trainer};
use biv::Error;
use biv::base::options::parse;
use biv::data::{Dataset, SyntheticOptions};
use biv::model::ModelOptions;
use biv::train::fit::{FitOptions, FitProgress, fit};
use biv::train::schedule::Plateau;
use biv::train::trainer::{StepReport, Trainer, TrainerOptions};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Four mini-batches of 10 are an epoch.
const ROWS: usize = 43;

const OPTIMIZERS: [&str; 5] = [
    r#"{"kind": "adam", "weight_decay": 0.01}"#,
    r#"{"kind": "adamw", "weight_decay": 0.1}"#,
    r#"{"kind": "sgd"}"#,
    r#"{"kind": "sgd", "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.01}"#,
    r#"{"kind": "sgd", "momentum": 0.9, "nesterov": true}"#,
];

const SCHEDULES: [&str; 4] = [
    r#"{"kind": "constant", "warmup_steps": 15}"#,
    r#"{"kind": "step", "epochs": 2, "gamma": 0.5}"#,
    r#"{"kind": "cosine", "epochs": 7, "min_factor": 0.1, "warmup_steps": 3}"#,
    r#"{"kind": "plateau", "factor": 0.5, "patience": 0, "threshold": 0.3}"#,
];

fn rows(seed: u64) -> Dataset {
    Dataset::synthetic(&SyntheticOptions { rows: ROWS, features: 5, outputs: 1, seed }).unwrap()
}

fn small_trainer(batch_norm: bool, options: &str) -> Trainer {
    let network = format!(r#"{{"kind": "mlp", "inputs": 5, "hidden": [9, 4], "batch_norm": {batch_norm}}}"#);
    let options = format!(r#"{{"loss": {{"kind": "mse"}}, "batch_size": 10, "learning_rate": 0.01, {options}}}"#);
    let mut trainer = trainer(model(&network), &rows(1), &options).unwrap();
    trainer.set_validation(Arc::new(rows(2))).unwrap();
    trainer
}

/// What a training has come to, to the last bit.
fn outcome(trainer: &Trainer) -> Vec<f64> {
    trainer.predict(&rows(3)).unwrap()
}

#[test]
fn steps_have_the_rates_of_their_schedule() {
    for json in SCHEDULES {
        let options = format!(r#""schedule": {json}"#);
        let mut trainer = small_trainer(false, &options);
        let schedule = trainer.options().schedule.clone().unwrap();
        let (mut plateau, mut rates) = (Plateau::default(), vec![]);
        for number in 0..8 {
            let report = trainer
                .epoch(|trainer: &Trainer, step: &StepReport| {
                    let expected = 0.01 * schedule.factor(number, trainer.steps() - 1, &plateau);
                    assert_eq!(step.learning_rate, expected, "{json}, epoch {number}, step {}", trainer.steps());
                    rates.push(step.learning_rate);
                    ControlFlow::Continue(())
                })
                .unwrap();
            assert_eq!(report.learning_rate, *rates.last().unwrap());
            schedule.observe(report.validation.unwrap().loss, &mut plateau);
        }
        assert!(rates.first() != rates.last(), "{json}: {rates:?}");
        // The rates are all that a schedule changes.
        let mut by_hand = small_trainer(false, r#""seed": 0"#);
        for chunk in rates.chunks(4) {
            for &rate in &chunk[..3] {
                by_hand.set_learning_rate(rate).unwrap();
                by_hand.step().unwrap();
            }
            by_hand.set_learning_rate(chunk[3]).unwrap();
            epoch(&mut by_hand);
        }
        assert_eq!(outcome(&by_hand), outcome(&trainer), "{json}");
        // A new rate is multiplied by what the old one was.
        let rate = trainer.present_rate();
        assert_eq!(trainer.step().unwrap().learning_rate, rate);
        let factor = rate / 0.01;
        if !json.contains("cosine") {
            trainer.set_learning_rate(0.1).unwrap();
            assert!((trainer.step().unwrap().learning_rate - 0.1 * factor).abs() < 1e-12, "{json}");
        }
    }
}

#[test]
fn every_optimizer_goes_on_bit_for_bit_under_every_schedule() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.biv");
    for optimizer in OPTIMIZERS {
        for schedule in SCHEDULES {
            for (clip, batch_norm) in [("", false), (r#", "clip_norm": 0.1"#, true)] {
                let options = format!(r#""optimizer": {optimizer}, "schedule": {schedule}{clip}"#);
                let mut uninterrupted = small_trainer(batch_norm, &options);
                // Into the middle of the third epoch.
                epoch(&mut uninterrupted);
                epoch(&mut uninterrupted);
                uninterrupted.step().unwrap();
                uninterrupted.save(&path).unwrap();
                let mut resumed = Trainer::load(&path, Some(&rows(1)), None).unwrap();
                resumed.set_validation(Arc::new(rows(2))).unwrap();
                assert_eq!(resumed.options(), uninterrupted.options());
                for number in 0..5 {
                    assert_eq!(epoch(&mut uninterrupted), epoch(&mut resumed), "{options}, {number}");
                }
                assert_eq!(outcome(&uninterrupted), outcome(&resumed), "{options}");
            }
        }
    }
}

fn six_epochs(trainer: &mut Trainer) -> Vec<f64> {
    for _ in 0..6 {
        epoch(trainer);
    }
    outcome(trainer)
}

#[test]
fn every_option_changes_the_training() {
    let mut outcomes: Vec<Vec<f64>> = OPTIMIZERS
        .iter()
        .map(|optimizer| format!(r#""optimizer": {optimizer}"#))
        .chain(SCHEDULES.iter().map(|schedule| format!(r#""schedule": {schedule}"#)))
        .chain([r#""clip_norm": 0.1"#, r#""seed": 0"#].map(String::from))
        .map(|options| {
            let mut trainer = small_trainer(false, &options);
            six_epochs(&mut trainer)
        })
        .collect();
    // Named or not, Adam is the same.
    let adam = small_trainer(false, r#""optimizer": {"kind": "adam"}"#);
    let plain = small_trainer(false, r#""adam": {}"#);
    let [adam, plain] = [adam, plain].map(|mut trainer| six_epochs(&mut trainer));
    assert_eq!((&adam, outcomes.last()), (&plain, Some(&plain)));
    let count = outcomes.len();
    outcomes.sort_by(|a, b| a.partial_cmp(b).unwrap());
    outcomes.dedup();
    assert_eq!(outcomes.len(), count);
}

#[test]
fn illegal_options_are_named() {
    let cases = [
        (
            r#"{"optimizer": {"kind": "rmsprop"}}"#,
            "trainer.optimizer.kind: is 'rmsprop', must be 'adam', 'adamw' or 'sgd'",
        ),
        (r#"{"optimizer": {"kind": "adam", "beta1": 1}}"#, "trainer.optimizer.beta1: is 1, must be in [0, 1)"),
        (
            r#"{"optimizer": {"kind": "adamw", "epsilon": 0}}"#,
            "trainer.optimizer.epsilon: is 0, must be greater than 0",
        ),
        (r#"{"optimizer": {"kind": "sgd", "momentum": 1}}"#, "trainer.optimizer.momentum: is 1, must be in [0, 1)"),
        (
            r#"{"optimizer": {"kind": "sgd", "beta1": 0.5}}"#,
            "trainer.optimizer.beta1: is no known field, allowed are 'dampening', 'kind', 'momentum', 'nesterov', 'weight_decay'",
        ),
        (
            r#"{"optimizer": {"kind": "sgd", "nesterov": true}}"#,
            "trainer.optimizer.nesterov: needs a momentum greater than 0 and no dampening",
        ),
        (
            r#"{"adam": {"beta1": 0.5}, "optimizer": {"kind": "sgd"}}"#,
            "trainer.adam: has constants beside those of 'optimizer': name Adam's in one of the two",
        ),
        (r#"{"clip_norm": 0}"#, "trainer.clip_norm: is 0, must be greater than 0"),
        (r#"{"schedule": {"kind": "cosine"}}"#, "trainer.schedule.epochs: is missing, must be a whole number"),
        (r#"{"schedule": {"kind": "step", "epochs": 0}}"#, "trainer.schedule.epochs: is 0, must be at least 1"),
        (r#"{"schedule": {"kind": "plateau", "factor": 1}}"#, "trainer.schedule.factor: is 1, must be in (0, 1)"),
    ];
    for (json, expected) in cases {
        let network = model(r#"{"kind": "mlp", "inputs": 5, "hidden": []}"#);
        let fault = match parse::<TrainerOptions>("trainer", json) {
            Ok(options) => Trainer::new(network, None, &options).unwrap_err(),
            Err(fault) => fault,
        };
        assert_eq!(fault.to_string(), expected);
    }
}

#[test]
fn a_schedule_without_what_it_follows_is_refused() {
    let options = |json: &str| parse::<TrainerOptions>("trainer", json).unwrap();
    let network = || model(r#"{"kind": "mlp", "inputs": 5, "hidden": []}"#);
    let plateau = options(r#"{"loss": {"kind": "mse"}, "batch_size": 10, "schedule": {"kind": "plateau"}}"#);
    let mut unvalidated = Trainer::new(network(), Some(&rows(1)), &plateau).unwrap();
    let fault = unvalidated.step().unwrap_err();
    let expected = "the schedule 'plateau' follows the loss on a validation set: give the trainer one";
    assert!(matches!(&fault, Error::InvalidArgument(message) if message == expected), "{fault}");
    unvalidated.set_validation(Arc::new(rows(2))).unwrap();
    unvalidated.step().unwrap();

    let cosine = options(r#"{"loss": {"kind": "mse"}, "schedule": {"kind": "cosine", "epochs": 5}}"#);
    let fault = Trainer::new(network(), None, &cosine).unwrap().step_on(&rows(1)).unwrap_err();
    let expected = "the schedule counts epochs of the trainer's data set, and the trainer was made without one";
    assert!(matches!(&fault, Error::Unsupported(message) if message == expected), "{fault}");
    let constant = options(r#"{"loss": {"kind": "mse"}, "schedule": {"kind": "constant", "warmup_steps": 4}}"#);
    let mut without_data = Trainer::new(network(), None, &constant).unwrap();
    let rates = [(); 5].map(|()| without_data.step_on(&rows(1)).unwrap().learning_rate / 1e-3);
    assert_eq!(rates, [0.25, 0.5, 0.75, 1.0, 1.0]);

    let single = parse::<FitOptions>("fit", r#"{"members": 1, "schedule": {"kind": "plateau"}}"#).unwrap();
    let network: ModelOptions = parse("model", r#"{"kind": "mlp", "inputs": 5, "hidden": []}"#).unwrap();
    let fault = fit(&network, &rows(1), &single, &mut |_| ControlFlow::Continue(())).unwrap_err().to_string();
    assert!(fault.starts_with("fit.schedule.kind: is 'plateau', but the network of 'members' 1"), "{fault}");
}

#[test]
fn a_fit_takes_optimizer_and_schedule_and_goes_on_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let network: ModelOptions = parse("model", r#"{"kind": "mlp", "inputs": 5, "hidden": [6]}"#).unwrap();
    let data = Dataset::synthetic(&SyntheticOptions { rows: 120, features: 5, outputs: 1, seed: 4 }).unwrap();
    let plateau = r#"{"kind": "plateau", "factor": 0.5, "patience": 0, "threshold": 0.5}"#;
    let cosine = r#"{"kind": "cosine", "epochs": 10, "warmup_steps": 5}"#;
    let mut outcomes = vec![];
    for (members, schedule) in [(3, plateau), (1, cosine), (3, cosine)] {
        let options = |checkpoint: &str| -> FitOptions {
            let json = format!(
                r#"{{"members": {members}, "epochs": 10, "batch_size": 16, "learning_rate": 0.05, "clip_norm": 1.0,
                "optimizer": {{"kind": "sgd", "momentum": 0.9}}, "schedule": {schedule}{checkpoint}}}"#
            );
            parse("fit", &json).unwrap()
        };
        let go_on = &mut |_: &FitProgress| ControlFlow::Continue(());
        let predict = |model: biv::model::Model| model.predict(&data.feature_values().unwrap()).unwrap();
        let whole = predict(fit(&network, &data, &options(""), go_on).unwrap().0);
        let path = folder.path().join(format!("{}.biv", outcomes.len()));
        let kept = options(&format!(r#", "checkpoint": {path:?}"#));
        let stop_at = |epoch: u64| {
            move |progress: &FitProgress| {
                if progress.epoch == epoch { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }
        };
        let stopped = fit(&network, &data, &kept, &mut stop_at(6));
        assert!(matches!(stopped, Err(Error::Cancelled(_))));
        assert_eq!(predict(fit(&network, &data, &kept, go_on).unwrap().0), whole, "{members} members, {schedule}");
        outcomes.push(whole);
    }
    assert_ne!(outcomes[0], outcomes[2]);
}
