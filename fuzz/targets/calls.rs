//! Sequences of legal and illegal calls. A model of the library's state says
//! for each call which errors it deserves: none of them and it must succeed, else
//! it must fail with one of them and leave everything as it was.
#![no_main]

use arbitrary::Arbitrary;
use biv_fuzz::*;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{CString, c_void};
use std::ptr::{null, null_mut};
use std::rc::Rc;

libfuzzer_sys::fuzz_target!(|calls: Vec<Call>| {
    let mut world = World::default();
    for call in calls.iter().take(48) {
        world.play(call);
        world.compare();
    }
    world.end();
});

/// Which handle a call gets: most often a living one of the right type, else any, a freed one, NULL or no handle at all.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Pick(u8);

/// The size of an array's dimension; small.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Size(u8);

impl Size {
    fn get(self, most: i64) -> i64 {
        i64::from(self.0) % (most + 1)
    }
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Table {
    rows: Size,
    features: Size,
    outputs: Size,
    variances: bool,
    /// Features by columns, labels from the last row to the first.
    strided: bool,
    flaw: Flaw,
    start: u8,
}

/// What is wrong with a caller's arrays.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq)]
enum Flaw {
    None,
    AlsoNone,
    NullLabels,
    NullData,
    Rank,
    Dtype,
    NegativeSize,
    Overflow,
    TooSmall,
    NotFinite,
    NegativeVariance,
    MoreLabels,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Loss {
    Mse,
    Cutoff,
    Iv,
    Biv,
    MinimumBatch,
    Illegal,
}

#[derive(Arbitrary, Debug)]
enum Call {
    Synthetic(Size, Size, Size),
    Arrays(Table),
    Noise(Pick, u8),
    Split(Pick, Size, Option<Size>, bool),
    Subset(Pick, Vec<u8>),
    Shuffle(Pick, u64),
    Examine(Pick),
    CopyLabels(Pick, Size, Size),
    Model { inputs: Size, hidden: Size, outputs: Size, batch_norm: bool },
    Describe(Pick, u8),
    Tensor { model: Pick, name: u8, rows: Size, columns: Size, write: Option<u8> },
    Predict { with: Pick, trainer: bool, rows: Size, features: Size, outputs: Size },
    Trainer { model: Pick, data: Option<Pick>, loss: Loss, batch: Size, drop_last: bool, normalize: bool },
    Step(Pick, bool),
    StepOn(Pick, Table),
    Fit { trainer: Pick, epochs: i8, test: Option<Pick>, stop: bool },
    Cancel(Pick),
    Evaluate(Pick, Pick, bool),
    Rate(Pick, u8),
    TrainersModel(Pick),
    Save { what: Pick, trainer: bool, file: u8 },
    LoadModel(u8),
    LoadTrainer(u8, Option<Pick>),
    Resolve(bool),
    Text(Pick),
    ComputeLoss(Loss, Table),
    Free(Pick, u8),
    Append(Pick, Pick),
    Latest(Pick, Size),
    Variances { data: Pick, rows: Size, outputs: Size, negative: bool },
    SetData(Pick, Pick),
}

/// What the library should know about an object.
#[derive(Clone, Debug)]
enum Object {
    Dataset(Dataset),
    Model(Rc<Model>),
    Trainer(Rc<Trainer>),
    Text,
}

#[derive(Clone, Copy, Debug)]
struct Dataset {
    rows: i64,
    features: i64,
    outputs: i64,
    variances: bool,
    clean: bool,
}

#[derive(Clone, Debug)]
struct Model {
    inputs: i64,
    hidden: i64,
    outputs: i64,
    batch_norm: bool,
    normalized: Cell<bool>,
}

#[derive(Clone, Debug)]
struct Trainer {
    model: Rc<Model>,
    /// The rows of its data, which it may have lost when it was saved and loaded.
    rows: Option<i64>,
    has_data: bool,
    loss: &'static str,
    batch: i64,
    drop_last: bool,
    rate: Cell<f64>,
    steps: Cell<i64>,
    /// Mini-batches taken from the data.
    taken: Cell<i64>,
    /// Whether a cancel is waiting for the next fit.
    cancelled: Cell<bool>,
}

impl Trainer {
    fn needs_variances(&self) -> bool {
        self.loss != MSE
    }

    fn batches(&self) -> i64 {
        let rows = self.rows.unwrap_or_default();
        if self.drop_last { rows / self.batch } else { (rows + self.batch - 1) / self.batch }
    }
}

const MSE: &str = r#"{"kind": "mse"}"#;

impl Loss {
    fn json(self) -> &'static str {
        match self {
            Loss::Mse => MSE,
            Loss::Cutoff => r#"{"kind": "cutoff_mse", "threshold": 1e9}"#,
            Loss::Iv => r#"{"kind": "iv", "epsilon": 0.5}"#,
            Loss::Biv => r#"{"kind": "biv", "epsilon": 0.1}"#,
            Loss::MinimumBatch => r#"{"kind": "biv", "epsilon": {"min_effective_batch_ratio": 0.5}}"#,
            Loss::Illegal => r#"{"kind": "biv", "epsilon": 0}"#,
        }
    }

    fn faults(self) -> Vec<biv_status> {
        if matches!(self, Loss::Illegal) { vec![BIV_ERROR_INVALID_CONFIG] } else { vec![] }
    }
}

impl Table {
    fn shape(&self) -> (i64, i64, i64) {
        (self.rows.get(12), self.features.get(9), self.outputs.get(3))
    }

    /// Small values that differ.
    fn values(&self, count: i64) -> Vec<f64> {
        (0..count).map(|at| ((i64::from(self.start) + at * 7) % 23) as f64 / 4.0).collect()
    }

    /// The errors that a data set made of the table deserves.
    fn faults(&self) -> Vec<biv_status> {
        let (rows, features, outputs) = self.shape();
        let mut faults = match self.flaw {
            Flaw::None | Flaw::AlsoNone => vec![],
            Flaw::NegativeVariance if !self.variances => vec![],
            Flaw::NullLabels | Flaw::NullData | Flaw::Dtype | Flaw::NotFinite | Flaw::NegativeVariance => {
                vec![BIV_ERROR_INVALID_ARGUMENT]
            }
            Flaw::Rank | Flaw::NegativeSize | Flaw::Overflow | Flaw::TooSmall | Flaw::MoreLabels => {
                vec![BIV_ERROR_SHAPE]
            }
        };
        if rows == 0 {
            faults.push(BIV_ERROR_INVALID_ARGUMENT);
        }
        if features == 0 || outputs == 0 {
            faults.push(BIV_ERROR_SHAPE);
        }
        faults
    }

    /// Calls with the arrays that the table describes.
    fn with<R>(&self, call: impl FnOnce(*const biv_array, *const biv_array, *const biv_array) -> R) -> R {
        let (rows, features, outputs) = self.shape();
        let mut x = self.values((rows * features).max(1));
        // A row more than there should be, for the flaw of that name.
        let y = self.values((rows + 1) * outputs.max(1));
        let mut v = y.clone();
        let shape = [rows, features];
        let by_columns = [1, rows];
        let mut labels_shape = [rows, outputs];
        let backwards = [-outputs, 1];
        if self.flaw == Flaw::NotFinite {
            x[0] = f64::NAN;
        }
        if self.flaw == Flaw::NegativeVariance {
            v[0] = -1.0;
        }
        match self.flaw {
            Flaw::NegativeSize => labels_shape[1] = -1,
            Flaw::Overflow => labels_shape = [i64::MAX / 2, i64::MAX / 2],
            Flaw::MoreLabels => labels_shape[0] = rows + 1,
            _ => {}
        }
        let mut features = array(&x, &shape);
        let mut labels = array(&y, &labels_shape);
        let variances_shape = [rows, outputs];
        let variances = array(&v, &variances_shape);
        if self.strided {
            features.strides = by_columns.as_ptr();
            if rows > 0 && outputs > 0 && labels_shape == [rows, outputs] {
                labels.strides = backwards.as_ptr();
                labels.data = y[((rows - 1) * outputs) as usize..].as_ptr().cast();
                // Not stated: it counts from `data` on, and these lie before.
                labels.size = 0;
            }
        }
        match self.flaw {
            Flaw::NullData => features.data = null(),
            Flaw::Rank => features.rank = 9 * i32::from(self.start % 2),
            Flaw::Dtype => features.dtype = 3,
            Flaw::TooSmall => features.size = -1,
            _ => {}
        }
        let labels: *const biv_array = if self.flaw == Flaw::NullLabels { null() } else { &labels };
        call(&features, labels, if self.variances { &variances } else { null() })
    }
}

/// All handles ever made; those that were freed stand for nothing.
#[derive(Default)]
struct World {
    handles: Vec<(usize, Option<Object>)>,
    /// What was saved in files by these names.
    files: BTreeMap<u8, Object>,
}

/// What a callback of fit knows.
struct Watched {
    trainer: *mut biv_trainer,
    stop: bool,
}

/// Uses the trainer that is being fitted, as the header allows.
///
/// # Safety
/// `user` is a [`Watched`].
unsafe extern "C-unwind" fn watch(user: *mut c_void, epoch: *const biv_epoch) -> i32 {
    // SAFETY: the promises of the caller and of the library.
    unsafe {
        let Watched { trainer, stop } = *user.cast::<Watched>();
        let mut progress: biv_progress = sized();
        assert_eq!(check_status(biv_trainer_get_progress(trainer, &mut progress)), BIV_OK);
        assert_eq!((progress.running, progress.epoch, progress.batch), (1, (*epoch).epoch, 0));
        assert_eq!(check_status(biv_trainer_fit(trainer, 1, null(), None, null_mut())), BIV_ERROR_BUSY);
        stop.into()
    }
}

/// One of two files, in memory where the system has such a folder.
fn path(file: u8) -> CString {
    let memory = std::path::Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
    let path = folder.join(format!("biv-fuzz-{}-{}", std::process::id(), file % 2));
    c_string(path.as_os_str().as_encoded_bytes())
}

impl World {
    /// The handle for `pick` where an object that `fits` is wanted, and that object if it is one.
    fn find<T>(&self, pick: Pick, fits: impl Fn(&Object) -> Option<T>) -> (usize, Option<T>) {
        let number = usize::from(pick.0);
        let fitting = self.handles.iter().filter_map(|(raw, object)| Some((*raw, fits(object.as_ref()?)?)));
        let mut fitting: Vec<(usize, T)> = fitting.collect();
        if number < 224 && !fitting.is_empty() {
            let (raw, object) = fitting.swap_remove(number % fitting.len());
            return (raw, Some(object));
        }
        match self.handles.get((number % 32) % (self.handles.len() + 2)) {
            Some((raw, object)) => (*raw, object.as_ref().and_then(fits)),
            None => (if number % 2 == 0 { 0 } else { number << 40 | 0xff_ffff }, None),
        }
    }

    fn dataset(&self, pick: Pick) -> (*mut biv_dataset, Option<Dataset>) {
        let (raw, found) = self.find(pick, |object| if let Object::Dataset(data) = object { Some(*data) } else { None });
        (raw as _, found)
    }

    fn model(&self, pick: Pick) -> (*mut biv_model, Option<Rc<Model>>) {
        let (raw, found) =
            self.find(pick, |object| if let Object::Model(model) = object { Some(model.clone()) } else { None });
        (raw as _, found)
    }

    fn trainer(&self, pick: Pick) -> (*mut biv_trainer, Option<Rc<Trainer>>) {
        let (raw, found) =
            self.find(pick, |object| if let Object::Trainer(trainer) = object { Some(trainer.clone()) } else { None });
        (raw as _, found)
    }

    /// A data set that may be left out, by NULL: what the call gets, what it is, and whether the handle is bad.
    fn optional(&self, pick: Option<Pick>) -> (*mut biv_dataset, Option<Dataset>, bool) {
        let (raw, data) = pick.map_or((null_mut(), None), |pick| self.dataset(pick));
        (raw, data, data.is_none() && !raw.is_null())
    }

    /// Makes an object, which becomes one of the world's where that succeeds.
    fn make<T>(&mut self, faults: &[biv_status], object: Object, make: impl FnOnce(*mut *mut T) -> biv_status) {
        let handle = made(make);
        expect(handle.err().unwrap_or(BIV_OK), faults);
        if let Ok(handle) = handle {
            self.handles.push((handle as usize, Some(object)));
        }
    }

    fn play(&mut self, call: &Call) {
        // SAFETY: every pointer below is a handle, which may be any number, or to a local that outlives the
        // call and is as large as its shape says, unless the library must refuse that shape.
        unsafe {
            match *call {
                Call::Synthetic(rows, features, outputs) => {
                    let (rows, features, outputs) = (rows.get(12), features.get(9), outputs.get(3));
                    let legal = rows >= 1 && features >= 5 && outputs >= 1;
                    let json = format!(r#"{{"rows": {rows}, "features": {features}, "outputs": {outputs}}}"#);
                    let data = Dataset { rows, features, outputs, variances: false, clean: false };
                    let json = c_string(json.as_bytes());
                    self.make(&fault(!legal, BIV_ERROR_INVALID_CONFIG), Object::Dataset(data), |out| {
                        biv_dataset_create_synthetic(json.as_ptr(), out)
                    });
                }
                Call::Arrays(table) => {
                    let (rows, features, outputs) = table.shape();
                    let data = Dataset { rows, features, outputs, variances: table.variances, clean: false };
                    self.make(&table.faults(), Object::Dataset(data), |out| {
                        table.with(|x, y, v| biv_dataset_create_from_arrays(x, y, v, out))
                    });
                }
                Call::Noise(pick, high) => {
                    let (raw, data) = self.dataset(pick);
                    let high = i32::from(high) - 8;
                    let json = format!(r#"{{"distribution": {{"kind": "uniform", "low": 0, "high": {high}}}}}"#);
                    let json = c_string(json.as_bytes());
                    let mut faults = handle_faults(&data);
                    faults.extend(fault(high < 0, BIV_ERROR_INVALID_CONFIG));
                    let object = data.map(|data| Dataset { variances: true, clean: true, ..data });
                    self.make(&faults, dataset_or_text(object), |out| biv_dataset_add_noise(raw, json.as_ptr(), out));
                }
                Call::Split(pick, train, test, shuffle) => {
                    let (raw, data) = self.dataset(pick);
                    let (train, test) = (train.get(12), test.map(|test| test.get(12)));
                    let json = format!(
                        r#"{{"train_size": {train}, "test_size": {}, "shuffle": {shuffle}}}"#,
                        test.map_or("null".into(), |test| test.to_string())
                    );
                    let json = c_string(json.as_bytes());
                    let (mut first, mut second) = (8 as *mut biv_dataset, 8 as *mut biv_dataset);
                    let status = check_status(biv_dataset_split(raw, json.as_ptr(), &mut first, &mut second));
                    let mut faults = handle_faults(&data);
                    faults.extend(fault(train == 0 || test == Some(0), BIV_ERROR_INVALID_CONFIG));
                    let sizes = data.map(|data| (train, test.unwrap_or((data.rows - train).max(0)), data.rows));
                    if let Some((train, test, rows)) = sizes {
                        faults.extend(fault(train == 0 || test == 0 || train + test > rows, BIV_ERROR_INVALID_ARGUMENT));
                    }
                    expect(status, &faults);
                    assert_eq!((first.is_null(), second.is_null()), (status != BIV_OK, status != BIV_OK));
                    if let (BIV_OK, Some(data), Some((train, test, _))) = (status, data, sizes) {
                        for (handle, rows) in [(first, train), (second, test)] {
                            self.handles.push((handle as usize, Some(Object::Dataset(Dataset { rows, ..data }))));
                        }
                    }
                }
                Call::Subset(pick, ref indices) => {
                    let (raw, data) = self.dataset(pick);
                    let indices: Vec<i64> = indices.iter().take(12).map(|&index| i64::from(index as i8) / 8).collect();
                    let mut faults = handle_faults(&data);
                    let legal = |rows| !indices.is_empty() && indices.iter().all(|index| (0..rows).contains(index));
                    faults.extend(fault(data.is_some_and(|data| !legal(data.rows)), BIV_ERROR_INVALID_ARGUMENT));
                    let object = data.map(|data| Dataset { rows: indices.len() as i64, ..data });
                    self.make(&faults, dataset_or_text(object), |out| {
                        biv_dataset_subset(raw, indices.as_ptr(), indices.len(), out)
                    });
                }
                Call::Shuffle(pick, seed) => {
                    let (raw, data) = self.dataset(pick);
                    self.make(&handle_faults(&data), dataset_or_text(data), |out| biv_dataset_shuffle(raw, seed, out));
                }
                Call::Append(pick, more) => {
                    let ((raw, data), (raw_more, more)) = (self.dataset(pick), self.dataset(more));
                    let mut faults = handle_faults(&data);
                    faults.extend(handle_faults(&more));
                    if let (Some(data), Some(more)) = (data, more) {
                        let misfit = (data.features, data.outputs) != (more.features, more.outputs);
                        faults.extend(fault(misfit, BIV_ERROR_SHAPE));
                        faults.extend(fault(data.variances != more.variances, BIV_ERROR_INVALID_ARGUMENT));
                    }
                    let both = |data: Dataset, more: Dataset| {
                        let clean = data.clean || more.clean;
                        Dataset { rows: data.rows + more.rows, clean, ..data }
                    };
                    let object = data.zip(more).map(|(data, more)| both(data, more));
                    self.make(&faults, dataset_or_text(object), |out| biv_dataset_append(raw, raw_more, out));
                }
                Call::Latest(pick, rows) => {
                    let (raw, data) = self.dataset(pick);
                    let rows = rows.get(12);
                    let mut faults = handle_faults(&data);
                    faults.extend(fault(rows == 0, BIV_ERROR_INVALID_ARGUMENT));
                    let object = data.map(|data| Dataset { rows: rows.min(data.rows), ..data });
                    self.make(&faults, dataset_or_text(object), |out| biv_dataset_latest(raw, rows as usize, out));
                }
                Call::Variances { data, rows, outputs, negative } => {
                    let (raw, data) = self.dataset(data);
                    let shape = [rows.get(12), outputs.get(3)];
                    let mut values = vec![0.5; 36];
                    values[0] = if negative { -1.0 } else { 0.5 };
                    let mut faults = handle_faults(&data);
                    faults.extend(fault(negative, BIV_ERROR_INVALID_ARGUMENT));
                    let misfit = data.is_some_and(|data| shape != [data.rows, data.outputs]);
                    faults.extend(fault(misfit, BIV_ERROR_SHAPE));
                    let object = data.map(|data| Dataset { variances: true, ..data });
                    self.make(&faults, dataset_or_text(object), |out| {
                        biv_dataset_with_variances(raw, &array(&values, &shape), null(), out)
                    });
                }
                Call::SetData(pick, data) => {
                    let ((raw, trainer), (raw_data, data)) = (self.trainer(pick), self.dataset(data));
                    let mut faults = handle_faults(&trainer);
                    faults.extend(handle_faults(&data));
                    if let (Some(trainer), Some(data)) = (&trainer, data) {
                        // Of as many rows, so that the trainer is where it was.
                        if !trainer.has_data || trainer.rows != Some(data.rows) {
                            return;
                        }
                        faults.extend(fault(!fits(&trainer.model, data), BIV_ERROR_SHAPE));
                        let lacking = trainer.needs_variances() && !data.variances;
                        faults.extend(fault(lacking, BIV_ERROR_INVALID_ARGUMENT));
                    }
                    expect(check_status(biv_trainer_set_data(raw, raw_data)), &faults);
                }
                Call::Examine(pick) => {
                    let (raw, data) = self.dataset(pick);
                    if let Some(data) = data {
                        let info = examine(raw);
                        assert_eq!((info.rows, info.features, info.outputs), (data.rows, data.features, data.outputs));
                        assert_eq!((info.has_variances, info.has_clean_labels), (data.variances.into(), data.clean.into()));
                    } else {
                        expect(check_status(biv_dataset_get_info(raw, &mut sized())), &handle_faults(&data));
                    }
                }
                Call::CopyLabels(pick, rows, columns) => {
                    let (raw, data) = self.dataset(pick);
                    let (rows, columns) = (rows.get(12), columns.get(3));
                    let mut values = vec![f64::NAN; 48];
                    let (vector, matrix) = ([rows], [rows, columns]);
                    let shape: &[i64] = if columns == 0 { &vector } else { &matrix };
                    let status = check_status(biv_dataset_copy_labels(raw, &array_out(&mut values, shape)));
                    let mut faults = handle_faults(&data);
                    let fits = |data: Dataset| rows == data.rows && columns.max(1) == data.outputs;
                    faults.extend(fault(data.is_some_and(|data| !fits(data)), BIV_ERROR_SHAPE));
                    expect(status, &faults);
                    let written = values.iter().filter(|value| !value.is_nan()).count() as i64;
                    assert_eq!(written, if status == BIV_OK { rows * columns.max(1) } else { 0 });
                }
                Call::Model { inputs, hidden, outputs, batch_norm } => {
                    let (inputs, hidden, outputs) = (inputs.get(9), hidden.get(6), outputs.get(3));
                    let widths = if hidden == 0 { String::new() } else { hidden.to_string() };
                    let json = format!(
                        r#"{{"kind": "mlp", "inputs": {inputs}, "hidden": [{widths}], "outputs": {outputs}, "batch_norm": {batch_norm}}}"#
                    );
                    let json = c_string(json.as_bytes());
                    let batch_norm = batch_norm && hidden > 0;
                    let model = Model { inputs, hidden, outputs, batch_norm, normalized: false.into() };
                    self.make(&fault(inputs * outputs == 0, BIV_ERROR_INVALID_CONFIG), Object::Model(model.into()), |out| {
                        biv_model_create(json.as_ptr(), out)
                    });
                }
                Call::Describe(pick, capacity) => {
                    let (raw, model) = self.model(pick);
                    let (mut text, mut needed) = (vec![0; 8 * usize::from(capacity)], usize::MAX);
                    let status = check_status(biv_model_describe(raw, text.as_mut_ptr(), text.len(), &mut needed));
                    let mut faults = handle_faults(&model);
                    faults.extend(fault(model.is_some() && needed > text.len(), BIV_ERROR_BUFFER_TOO_SMALL));
                    expect(status, &faults);
                    assert_eq!(model.is_some(), needed != usize::MAX);
                }
                Call::Tensor { model, name, rows, columns, write } => {
                    let (raw, model) = self.model(model);
                    let (rows, columns) = (rows.get(9), columns.get(9));
                    let name = [c"0.weight", c"0.bias", c"9.weight"][usize::from(name) % 3];
                    let mut values = vec![f64::from(write.unwrap_or(4)) / 256.0; 81];
                    let (vector, matrix) = ([rows], [rows, columns]);
                    let shape: &[i64] = if name == c"0.bias" { &vector } else { &matrix };
                    let mut faults = handle_faults(&model);
                    if let Some(model) = &model {
                        let width = if model.hidden > 0 { model.hidden } else { model.outputs };
                        match name.to_bytes() {
                            b"0.weight" => faults.extend(fault(matrix != [width, model.inputs], BIV_ERROR_SHAPE)),
                            b"0.bias" => faults.extend(fault(rows != width, BIV_ERROR_SHAPE)),
                            _ => faults.push(BIV_ERROR_NOT_FOUND),
                        }
                    }
                    let status = match write {
                        Some(_) => biv_model_set_tensor(raw, name.as_ptr(), &array(&values, shape)),
                        None => biv_model_get_tensor(raw, name.as_ptr(), &array_out(&mut values, shape)),
                    };
                    expect(check_status(status), &faults);
                }
                Call::Predict { with, trainer, rows, features, outputs } => {
                    let (rows, features, outputs) = (rows.get(5), features.get(9), outputs.get(3));
                    let (x, mut values) = (vec![0.25; 45], vec![f64::NAN; 15]);
                    let (x_shape, shape) = ([rows, features], [rows, outputs]);
                    let x = array(&x, &x_shape);
                    let out = array_out(&mut values, &shape);
                    let (status, model) = if trainer {
                        let (raw, found) = self.trainer(with);
                        (biv_trainer_predict(raw, &x, &out), found.map(|trainer| trainer.model.clone()))
                    } else {
                        let (raw, found) = self.model(with);
                        (biv_model_predict(raw, &x, &out), found)
                    };
                    let mut faults = handle_faults(&model);
                    let fits = |model: &Model| features == model.inputs && outputs == model.outputs;
                    faults.extend(fault(model.is_some_and(|model| !fits(&model)), BIV_ERROR_SHAPE));
                    expect(check_status(status), &faults);
                    let finite = values.iter().filter(|value| value.is_finite()).count() as i64;
                    assert_eq!(finite, if status == BIV_OK { rows * outputs } else { 0 });
                }
                Call::Trainer { model, data, loss, batch, drop_last, normalize } => {
                    let (raw, model) = self.model(model);
                    let (raw_data, data, bad) = self.optional(data);
                    let batch = batch.get(8);
                    let json = format!(
                        r#"{{"loss": {}, "batch_size": {batch}, "drop_last": {drop_last}, "normalize": {normalize}}}"#,
                        loss.json()
                    );
                    let json = c_string(json.as_bytes());
                    let mut faults = handle_faults(&model);
                    faults.extend(loss.faults());
                    faults.extend(fault(bad, BIV_ERROR_INVALID_HANDLE));
                    faults.extend(fault(batch == 0, BIV_ERROR_INVALID_CONFIG));
                    let Some(model) = model else {
                        self.make(&faults, Object::Text, |out| biv_trainer_create(raw, raw_data, json.as_ptr(), out));
                        return;
                    };
                    let trainer = Trainer {
                        model: model.clone(),
                        rows: data.map(|data| data.rows),
                        has_data: data.is_some(),
                        loss: loss.json(),
                        batch,
                        drop_last,
                        rate: 1e-3.into(),
                        steps: 0.into(),
                        taken: 0.into(),
                        cancelled: false.into(),
                    };
                    if let (Some(data), true) = (data, batch > 0) {
                        faults.extend(fault(!fits(&model, data), BIV_ERROR_SHAPE));
                        let last = if drop_last || data.rows % batch == 0 { batch } else { data.rows % batch };
                        let illegal = trainer.needs_variances() && !data.variances
                            || drop_last && batch > data.rows
                            || model.batch_norm && last < 2;
                        faults.extend(fault(illegal, BIV_ERROR_INVALID_ARGUMENT));
                    }
                    if faults.is_empty() && normalize && data.is_some() {
                        model.normalized.set(true);
                    }
                    self.make(&faults, Object::Trainer(trainer.into()), |out| {
                        biv_trainer_create(raw, raw_data, json.as_ptr(), out)
                    });
                }
                Call::Step(pick, report) => {
                    let (raw, trainer) = self.trainer(pick);
                    let mut step: biv_step = sized();
                    let status = check_status(biv_trainer_step(raw, if report { &mut step } else { null_mut() }));
                    let mut faults = handle_faults(&trainer);
                    let idle = trainer.as_ref().is_some_and(|trainer| !trainer.has_data);
                    faults.extend(fault(idle, BIV_ERROR_UNSUPPORTED));
                    expect(status, &faults);
                    if let (BIV_OK, Some(trainer)) = (status, trainer) {
                        trainer.steps.set(trainer.steps.get() + 1);
                        trainer.taken.set(trainer.taken.get() + 1);
                        assert!(!report || step.loss.is_finite() && step.rows == step.samples_used);
                    }
                }
                Call::StepOn(pick, table) => {
                    let (raw, trainer) = self.trainer(pick);
                    let status = check_status(table.with(|x, y, v| biv_trainer_step_on(raw, x, y, v, &mut sized())));
                    let (rows, features, outputs) = table.shape();
                    let mut faults = handle_faults(&trainer);
                    faults.extend(table.faults());
                    if let Some(trainer) = &trainer {
                        let Model { inputs, outputs: expected, batch_norm, .. } = *trainer.model;
                        let misfit = inputs != features || expected != outputs || batch_norm && rows < 2;
                        faults.extend(fault(misfit, BIV_ERROR_SHAPE));
                        faults.extend(fault(
                            trainer.needs_variances() && !table.variances,
                            BIV_ERROR_INVALID_ARGUMENT,
                        ));
                    }
                    expect(status, &faults);
                    if let (BIV_OK, Some(trainer)) = (status, trainer) {
                        trainer.steps.set(trainer.steps.get() + 1);
                    }
                }
                Call::Fit { trainer, epochs, test, stop } => {
                    let (raw, trainer) = self.trainer(trainer);
                    let (raw_test, test, bad) = self.optional(test);
                    let epochs = i64::from(epochs) / 32;
                    let mut faults = handle_faults(&trainer);
                    faults.extend(fault(bad, BIV_ERROR_INVALID_HANDLE));
                    faults.extend(fault(epochs < 0, BIV_ERROR_INVALID_ARGUMENT));
                    if let Some(trainer) = &trainer {
                        faults.extend(fault(test.is_some_and(|test| !fits(&trainer.model, test)), BIV_ERROR_SHAPE));
                        faults.extend(fault(epochs > 0 && !trainer.has_data, BIV_ERROR_UNSUPPORTED));
                    }
                    if let (true, true, Some(trainer)) = (epochs >= 0, !bad, &trainer) {
                        faults.extend(fault(trainer.cancelled.take(), BIV_ERROR_CANCELLED));
                    }
                    if let (true, Some(trainer)) = (faults.is_empty(), &trainer) {
                        faults.extend(fault(stop && epochs > 0, BIV_ERROR_CANCELLED));
                        let epochs = if stop { epochs.min(1) } else { epochs };
                        if epochs > 0 {
                            let (batches, taken) = (trainer.batches(), trainer.taken.get());
                            let after = (taken / batches + epochs) * batches;
                            trainer.steps.set(trainer.steps.get() + after - taken);
                            trainer.taken.set(after);
                        }
                    }
                    let mut watched = Watched { trainer: raw, stop };
                    let user = (&raw mut watched).cast();
                    expect(check_status(biv_trainer_fit(raw, epochs, raw_test, Some(watch), user)), &faults);
                }
                Call::Cancel(pick) => {
                    let (raw, trainer) = self.trainer(pick);
                    expect(check_status(biv_trainer_cancel(raw)), &handle_faults(&trainer));
                    if let Some(trainer) = &trainer {
                        trainer.cancelled.set(true);
                    }
                }
                Call::Evaluate(pick, data, forgot) => {
                    let ((raw, trainer), (raw_data, data)) = (self.trainer(pick), self.dataset(data));
                    let mut metrics: biv_metrics = sized();
                    if forgot {
                        metrics.struct_size = 0;
                    }
                    let mut faults = handle_faults(&trainer);
                    faults.extend(handle_faults(&data));
                    faults.extend(fault(forgot, BIV_ERROR_INVALID_ARGUMENT));
                    let fit = |trainer: &Rc<Trainer>| data.is_none_or(|data| fits(&trainer.model, data));
                    faults.extend(fault(trainer.as_ref().is_some_and(|trainer| !fit(trainer)), BIV_ERROR_SHAPE));
                    expect(check_status(biv_trainer_evaluate(raw, raw_data, &mut metrics)), &faults);
                }
                Call::Rate(pick, rate) => {
                    let (raw, trainer) = self.trainer(pick);
                    let rate = [1e-4, 0.01, 0.1, 0.0, -1.0, f64::NAN, f64::INFINITY][usize::from(rate) % 7];
                    let legal = rate > 0.0 && rate.is_finite();
                    let mut faults = handle_faults(&trainer);
                    faults.extend(fault(!legal, BIV_ERROR_INVALID_CONFIG));
                    expect(check_status(biv_trainer_set_learning_rate(raw, rate)), &faults);
                    if let (true, Some(trainer)) = (legal, trainer) {
                        trainer.rate.set(rate);
                    }
                }
                Call::TrainersModel(pick) => {
                    let (raw, trainer) = self.trainer(pick);
                    let object = trainer.as_ref().map_or(Object::Text, |trainer| Object::Model(trainer.model.clone()));
                    self.make(&handle_faults(&trainer), object, |out| biv_trainer_get_model(raw, out));
                }
                Call::Save { what, trainer, file } => {
                    let (status, object) = if trainer {
                        let (raw, found) = self.trainer(what);
                        (biv_trainer_save(raw, path(file).as_ptr()), found.map(|found| Object::Trainer(copy(&found))))
                    } else {
                        let (raw, found) = self.model(what);
                        let model = found.map(|found| Object::Model(Rc::new((*found).clone())));
                        (biv_model_save(raw, path(file).as_ptr()), model)
                    };
                    expect(check_status(status), &handle_faults(&object));
                    self.files.extend(object.map(|object| (file % 2, object)));
                }
                Call::LoadModel(file) => {
                    let (object, faults) = match self.files.get(&(file % 2)) {
                        Some(Object::Model(model)) => (Object::Model(Rc::new((**model).clone())), vec![]),
                        Some(Object::Trainer(trainer)) => (Object::Model(Rc::new((*trainer.model).clone())), vec![]),
                        Some(_) => (Object::Text, vec![BIV_ERROR_INVALID_ARGUMENT]),
                        None => (Object::Text, vec![BIV_ERROR_NOT_FOUND]),
                    };
                    self.make(&faults, object, |out| biv_model_load(path(file).as_ptr(), out));
                }
                Call::LoadTrainer(file, data) => {
                    let (mut raw_data, mut data, bad) = self.optional(data);
                    let mut faults = fault(bad, BIV_ERROR_INVALID_HANDLE);
                    let object = match self.files.get(&(file % 2)) {
                        Some(Object::Trainer(saved)) => {
                            // Data of the same sizes may be others, which this model of the state does not know.
                            if data.is_some_and(|data| fits(&saved.model, data) && saved.rows == Some(data.rows)) {
                                (raw_data, data) = (null_mut(), None);
                            }
                            if let Some(data) = data {
                                let same = fits(&saved.model, data) && saved.rows == Some(data.rows);
                                faults.extend(fault(!same, BIV_ERROR_SHAPE));
                                let missing = saved.needs_variances() && !data.variances;
                                faults.extend(fault(missing, BIV_ERROR_INVALID_ARGUMENT));
                            }
                            let has_data = data.is_some();
                            Object::Trainer(Rc::new(Trainer { has_data, ..(*copy(saved)).clone() }))
                        }
                        Some(_) => {
                            faults.push(BIV_ERROR_INVALID_ARGUMENT);
                            Object::Text
                        }
                        None => {
                            faults.push(BIV_ERROR_NOT_FOUND);
                            Object::Text
                        }
                    };
                    self.make(&faults, object, |out| biv_trainer_load(path(file).as_ptr(), raw_data, null(), out));
                }
                Call::Resolve(legal) => {
                    let json = cr#"{"dataset": {"kind": "synthetic", "train_size": 9}, "batch_size": 3, "loss": {"kind": "mse"}}"#;
                    let json = if legal { json } else { c"{}" };
                    self.make(&fault(!legal, BIV_ERROR_INVALID_CONFIG), Object::Text, |out| {
                        biv_experiment_resolve(json.as_ptr(), out)
                    });
                }
                Call::Text(pick) => {
                    let (raw, found) = self.find(pick, |object| matches!(object, Object::Text).then_some(()));
                    let mut text = c"".as_ptr();
                    expect(check_status(biv_text_get(raw as *const biv_text, &mut text)), &handle_faults(&found));
                    assert_eq!(found.is_none(), text.is_null());
                }
                Call::ComputeLoss(loss, table) => {
                    let (rows, _, outputs) = table.shape();
                    // The features are the predictions, of the labels' shape; what makes no data set makes no batch.
                    let table = Table { features: Size(outputs as u8), strided: false, ..table };
                    let mut gradient = vec![0.0; 36];
                    let shape = [rows, outputs];
                    let gradient = array_out(&mut gradient, &shape);
                    let json = c_string(loss.json().as_bytes());
                    let mut faults = table.faults();
                    faults.extend(loss.faults());
                    faults.extend(fault(rows == 0, BIV_ERROR_SHAPE));
                    faults.extend(fault(loss.json() != MSE && !table.variances, BIV_ERROR_INVALID_ARGUMENT));
                    let status = table.with(|x, y, v| biv_loss_compute(json.as_ptr(), x, y, v, &mut sized(), &gradient));
                    expect(check_status(status), &faults);
                }
                Call::Free(pick, kind) => {
                    let number = usize::from(pick.0) % (self.handles.len() + 1);
                    let raw = self.handles.get(number).map_or(0, |(raw, _)| *raw);
                    let kind = match self.handles.get(number).and_then(|(_, object)| object.as_ref()) {
                        Some(object) if kind < 200 => object.kind(),
                        _ => kind % 4,
                    };
                    self.free(raw, kind);
                }
            }
        }
    }

    /// Calls the _free function of `kind` on a handle, and forgets the object if it was of that kind.
    fn free(&mut self, raw: usize, kind: u8) {
        match kind {
            0 => biv_dataset_free(raw as _),
            1 => biv_model_free(raw as _),
            2 => biv_trainer_free(raw as _),
            _ => biv_text_free(raw as _),
        }
        for (_, object) in self.handles.iter_mut().filter(|(other, _)| *other == raw) {
            if object.as_ref().is_some_and(|object| object.kind() == kind) {
                *object = None;
            }
        }
    }

    /// Every object is what the world says it is, whatever was done to the others.
    fn compare(&self) {
        for (raw, object) in &self.handles {
            // SAFETY: locals that outlive the calls.
            unsafe {
                match object {
                    Some(Object::Model(model)) => {
                        let mut info: biv_model_info = sized();
                        assert_eq!(check_status(biv_model_get_info(*raw as _, &mut info)), BIV_OK);
                        assert_eq!((info.inputs, info.outputs), (model.inputs, model.outputs));
                        assert_eq!(info.normalized, i32::from(model.normalized.get()));
                    }
                    Some(Object::Trainer(trainer)) => {
                        let (mut progress, mut rate): (biv_progress, _) = (sized(), 0.0);
                        assert_eq!(check_status(biv_trainer_get_progress(*raw as _, &mut progress)), BIV_OK);
                        let (batches, taken) = (trainer.batches(), trainer.taken.get());
                        let place = if trainer.has_data { (taken / batches, taken % batches) } else { (0, 0) };
                        let found = (progress.epoch, progress.batch, progress.steps, progress.running);
                        assert_eq!(found, (place.0, place.1, trainer.steps.get(), 0));
                        assert_eq!(check_status(biv_trainer_get_learning_rate(*raw as _, &mut rate)), BIV_OK);
                        assert_eq!(rate, trainer.rate.get());
                    }
                    Some(Object::Dataset(data)) => {
                        let mut info: biv_dataset_info = sized();
                        assert_eq!(check_status(biv_dataset_get_info(*raw as _, &mut info)), BIV_OK);
                        assert_eq!((info.rows, info.features, info.outputs), (data.rows, data.features, data.outputs));
                    }
                    Some(Object::Text) => {}
                    None => {
                        let mut info: biv_dataset_info = sized();
                        let status = check_status(biv_dataset_get_info(*raw as _, &mut info));
                        assert_eq!(status, BIV_ERROR_INVALID_HANDLE);
                    }
                }
            }
        }
    }

    /// Frees everything, from the middle on.
    fn end(mut self) {
        let count = self.handles.len();
        for at in (0..count).map(|at| (at + count / 2) % count) {
            if let (raw, Some(object)) = &self.handles[at] {
                self.free(*raw, object.kind());
                self.compare();
            }
        }
        for file in 0..2 {
            let _ = std::fs::remove_file(path(file).to_str().unwrap());
        }
    }
}

impl Object {
    fn kind(&self) -> u8 {
        match self {
            Object::Dataset(_) => 0,
            Object::Model(_) => 1,
            Object::Trainer(_) => 2,
            Object::Text => 3,
        }
    }
}

/// Without faults a call succeeds; with some it fails for one of them.
fn expect(status: biv_status, faults: &[biv_status]) {
    let legal = if faults.is_empty() { status == BIV_OK } else { faults.contains(&status) };
    assert!(legal, "status {status}, expected {faults:?}: {}", last_message());
}

fn fault(is: bool, status: biv_status) -> Vec<biv_status> {
    if is { vec![status] } else { vec![] }
}

fn handle_faults<T>(object: &Option<T>) -> Vec<biv_status> {
    fault(object.is_none(), BIV_ERROR_INVALID_HANDLE)
}

fn fits(model: &Model, data: Dataset) -> bool {
    (model.inputs, model.outputs) == (data.features, data.outputs)
}

/// What a data set becomes; where there is none the call fails and nothing does.
fn dataset_or_text(data: Option<Dataset>) -> Object {
    data.map_or(Object::Text, Object::Dataset)
}

/// A trainer as it is now, with a model of its own.
fn copy(trainer: &Trainer) -> Rc<Trainer> {
    Rc::new(Trainer { model: Rc::new((*trainer.model).clone()), ..trainer.clone() })
}
