//! Training whose data set is replaced: by the same one, by one that grew, by a window.

use biv::Error;
use biv::base::options::parse;
use biv::data::{Dataset, SyntheticOptions};
use biv::model::Model;
use biv::train::checkpoint::LoadOptions;
use biv::train::sampler::Position;
use biv::train::trainer::{Trainer, TrainerOptions};
use parking_lot::Mutex;
use proptest::prelude::*;
use std::sync::Arc;

/// `rows` rows of Friedman's function with variances from 1 to 4.
fn rows(rows: usize, seed: u64) -> Dataset {
    let options: SyntheticOptions = parse("synthetic", &format!(r#"{{"rows":{rows},"seed":{seed}}}"#)).unwrap();
    let data = Dataset::synthetic(&options).unwrap();
    let variances: Vec<f64> = (0..rows).map(|row| 1.0 + (row % 4) as f64).collect();
    data.with_variances(variances).unwrap()
}

fn trainer(data: &Dataset, change: &str) -> Trainer {
    let model = Model::new(&parse("model", r#"{"kind":"mlp","inputs":10,"hidden":[8]}"#).unwrap()).unwrap();
    let options = format!(r#"{{"loss":{{"kind":"biv"}},"batch_size":16,"drop_last":false,"seed":3{change}}}"#);
    let options: TrainerOptions = parse("trainer", &options).unwrap();
    Trainer::new(Arc::new(Mutex::new(model)), Some(data), &options).unwrap()
}

/// The bits of the losses of the next `count` steps.
fn losses(trainer: &mut Trainer, count: usize) -> Vec<u64> {
    (0..count).map(|_| trainer.step().unwrap().loss.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn the_same_data_change_no_bit(places in proptest::collection::vec(0usize..21, 1..5)) {
        // 7 mini-batches in an epoch, three epochs.
        let data = rows(100, 1);
        let expected = losses(&mut trainer(&data, ""), 21);
        let mut trainer = trainer(&data, "");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("checkpoint");
        let mut found = vec![];
        for step in 0..21 {
            if places.contains(&step) {
                trainer.set_data(&rows(100, 1)).unwrap();
                trainer.save(&file).unwrap();
                trainer = Trainer::load(&file, Some(&data), None).unwrap();
                trainer.set_data(&data).unwrap();
            }
            found.extend(losses(&mut trainer, 1));
        }
        prop_assert_eq!(found, expected);
        prop_assert!(trainer.accepted().is_empty());
    }
}

#[test]
fn training_on_rows_that_came_one_by_one_is_training_on_them_at_once() {
    let all = rows(300, 2);
    let row = |at: usize| all.subset(&[at]).unwrap();
    let grown =
        (101..300).fold(all.subset(&(0..101).collect::<Vec<_>>()).unwrap(), |data, at| data.append(&row(at)).unwrap());
    assert_eq!(losses(&mut trainer(&grown, ""), 60), losses(&mut trainer(&all, ""), 60));
}

#[test]
fn other_data_go_on_where_training_was() {
    let (first, all) = (rows(100, 1), rows(300, 1));
    let mut trainer = trainer(&first, "");
    losses(&mut trainer, 9);
    assert_eq!(trainer.position(), Position { epoch: 1, batch: 2 });
    let normalization = trainer.model().lock().normalization().cloned();
    trainer.set_data(&all).unwrap();
    assert_eq!((trainer.position(), trainer.batches_per_epoch()), (Position { epoch: 1, batch: 2 }, 19));
    losses(&mut trainer, 10);
    // No such mini-batch.
    trainer.set_data(&all.latest(40).unwrap()).unwrap();
    assert_eq!((trainer.position(), trainer.batches_per_epoch()), (Position { epoch: 2, batch: 0 }, 3));
    losses(&mut trainer, 1);
    assert_eq!(trainer.steps(), 20);
    assert_eq!(trainer.model().lock().normalization().cloned(), normalization);
    // The checkpoint is one of the window.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("checkpoint");
    trainer.save(&file).unwrap();
    assert!(matches!(Trainer::load(&file, Some(&all), None), Err(Error::Shape(_))));
    let mut loaded = Trainer::load(&file, Some(&all.latest(40).unwrap()), None).unwrap();
    assert!(loaded.accepted().is_empty());
    let expected = losses(&mut trainer, 10);
    assert_eq!(losses(&mut loaded, 10), expected);
    // Without data a checkpoint keeps its place until it gets some.
    let mut empty = Trainer::load_with(&file, None, &LoadOptions::default()).unwrap();
    assert_eq!(empty.position(), Position::default());
    empty.set_data(&all.latest(40).unwrap()).unwrap();
    assert_eq!(losses(&mut empty, 10), expected);
}

#[test]
fn a_trainer_without_data_gets_some() {
    let data = rows(100, 1);
    let model = Model::new(&parse("model", r#"{"kind":"mlp","inputs":10,"hidden":[8]}"#).unwrap()).unwrap();
    let mut trainer = Trainer::new(Arc::new(Mutex::new(model)), None, &parse("trainer", "{}").unwrap()).unwrap();
    assert!(matches!(trainer.step(), Err(Error::Unsupported(_))));
    trainer.set_data(&data.append(&data).unwrap().append(&data).unwrap()).unwrap();
    trainer.step().unwrap();
}

#[test]
fn data_that_do_not_fit_leave_the_trainer_as_it_was() {
    let data = rows(100, 1);
    let expected = losses(&mut trainer(&data, ""), 20);
    let mut trainer = trainer(&data, "");
    let mut found = losses(&mut trainer, 5);
    let narrow = Dataset::new(vec![0.0; 20], vec![1], vec![0.0; 20], 1, Some(vec![1.0; 20])).unwrap();
    let unknown = Dataset::new(vec![0.0; 200], vec![10], vec![0.0; 20], 1, None).unwrap();
    let huge = Dataset::new(vec![0.0; 200], vec![10], vec![1e300; 20], 1, Some(vec![1.0; 20])).unwrap();
    let masked = data.with_variances(vec![f64::INFINITY; 100]).unwrap();
    for (data, expected) in [
        (&narrow, "rows of the data set have 1 features, the model has 10"),
        (&unknown, "the loss 'biv' needs the variances of the labels"),
        (&huge, "row 19, label 0: 1e300 is"),
        (&masked, "every label is missing or has an infinite variance"),
    ] {
        let message = trainer.set_data(data).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message}");
    }
    found.extend(losses(&mut trainer, 15));
    assert_eq!(found, expected);
}
