//! Sequences of C calls, legal and illegal, beside a model of what each handle stands for.

#![no_main]

use biv_fuzz::*;
use libfuzzer_sys::fuzz_target;
use std::ptr::{null, null_mut};

/// What a handle should stand for.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Dataset { rows: usize, features: usize, variances: bool },
    Model { inputs: usize },
    Trainer { inputs: usize, has_data: bool, needs_variances: bool },
}

struct Handle {
    address: usize,
    kind: Kind,
    alive: bool,
}

struct World<'a> {
    bytes: std::slice::Iter<'a, u8>,
    handles: Vec<Handle>,
}

/// A row-major array over `values`.
fn array<T>(values: &[T], shape: &[i64]) -> biv_array {
    let dtype = if size_of::<T>() == 4 { BIV_F32 } else { BIV_F64 };
    biv_array {
        data: values.as_ptr().cast(),
        dtype,
        rank: shape.len() as i32,
        shape: shape.as_ptr(),
        strides: null(),
        size: values.len() as i64,
    }
}

impl World<'_> {
    fn byte(&mut self) -> usize {
        usize::from(self.bytes.next().copied().unwrap_or(0))
    }

    /// A handle to give where one of `wanted` belongs: mostly one of those, sometimes any other, freed, or nonsense.
    fn pick(&mut self, wanted: impl Fn(&Kind) -> bool) -> (usize, Option<Kind>) {
        let choice = self.byte();
        let fitting = |handle: &&Handle| choice % 8 == 0 || wanted(&handle.kind);
        let candidates: Vec<&Handle> = self.handles.iter().filter(fitting).collect();
        match candidates.get(choice / 8 % candidates.len().max(1)) {
            Some(handle) => (handle.address, Some(handle.kind).filter(|kind| handle.alive && wanted(kind))),
            None => ([0, 1, 0xffff_ffff, usize::MAX, 0x1_0000_0001][choice % 5], None),
        }
    }

    fn dataset(&mut self) -> (*const biv_dataset, Option<Kind>) {
        let (address, kind) = self.pick(|kind| matches!(kind, Kind::Dataset { .. }));
        (address as *const _, kind)
    }

    fn model(&mut self) -> (*const biv_model, Option<Kind>) {
        let (address, kind) = self.pick(|kind| matches!(kind, Kind::Model { .. }));
        (address as *const _, kind)
    }

    fn trainer(&mut self) -> (*const biv_trainer, Option<Kind>) {
        let (address, kind) = self.pick(|kind| matches!(kind, Kind::Trainer { .. }));
        (address as *const _, kind)
    }

    /// Takes note of a call that makes a handle. `expected` says whether it must succeed or must fail, where that is known.
    fn made<T>(&mut self, status: biv_status, out: *mut T, kind: Option<Kind>, expected: Option<bool>) {
        check_status(status);
        assert_eq!(status == BIV_OK, !out.is_null());
        assert!(expected.is_none_or(|expected| expected == (status == BIV_OK)), "{kind:?}: status {status}");
        if let (BIV_OK, Some(kind)) = (status, kind) {
            self.handles.push(Handle { address: out as usize, kind, alive: true });
        }
    }

    /// One call.
    fn call(&mut self) {
        // SAFETY: every pointer is NULL or to memory of the stated size that lives through the call.
        unsafe {
            match self.byte() % 15 {
                0 => {
                    let (rows, features, variances) = (self.byte() % 12, 1 + self.byte() % 4, self.byte() % 2 == 1);
                    let x: Vec<f32> = (0..rows * features).map(|at| (at % 7) as f32).collect();
                    let y: Vec<f64> = (0..rows).map(|at| at as f64).collect();
                    let bad = self.byte() % 8;
                    let v: Vec<f64> = (0..rows).map(|at| if bad == 0 && at == 0 { -1.0 } else { at as f64 }).collect();
                    let mut out = null_mut();
                    let (shape, table) = ([rows as i64], [rows as i64, features as i64]);
                    let v = array(&v, &shape);
                    let status = biv_dataset_create_from_arrays(
                        &array(&x, &table),
                        &array(&y, &shape),
                        if variances { &raw const v } else { null() },
                        &mut out,
                    );
                    let legal = rows > 0 && !(variances && bad == 0);
                    self.made(status, out, Some(Kind::Dataset { rows, features, variances }), Some(legal));
                }
                1 => {
                    let (inputs, width) = (1 + self.byte() % 4, self.byte() % 5);
                    let norm = self.byte() % 2 == 1;
                    let json = format!(r#"{{"kind": "mlp", "inputs": {inputs}, "hidden": [{width}], "batch_norm": {norm}}}"#);
                    let mut out = null_mut();
                    let status = biv_model_create(c_string(json.as_bytes()).as_ptr(), &mut out);
                    self.made(status, out, Some(Kind::Model { inputs }), Some(width > 0));
                }
                2 => {
                    let ((model, model_kind), (data, data_kind)) = (self.model(), self.dataset());
                    let without = self.byte() % 4 == 0;
                    let loss = ["mse", "biv", "cutoff_mse", "iv"][self.byte() % 4];
                    let size = self.byte() % 8;
                    let json = format!(r#"{{"loss": {{"kind": "{loss}"}}, "batch_size": {size}, "drop_last": false}}"#);
                    let mut out = null_mut();
                    let data = if without { null() } else { data };
                    let status = biv_trainer_create(model, data, c_string(json.as_bytes()).as_ptr(), &mut out);
                    let needs_variances = loss != "mse";
                    let (kind, expected) = match (model_kind, data_kind) {
                        (Some(Kind::Model { inputs }), _) if without => {
                            (Some(Kind::Trainer { inputs, has_data: false, needs_variances }), Some(size > 0))
                        }
                        (Some(Kind::Model { inputs }), Some(Kind::Dataset { features, variances, .. })) => {
                            let fits = inputs == features && (variances || !needs_variances) && size > 0;
                            // A BatchNorm may refuse the size of the mini-batches.
                            let expected = if fits { None } else { Some(false) };
                            (Some(Kind::Trainer { inputs, has_data: true, needs_variances }), expected)
                        }
                        _ => (None, Some(false)),
                    };
                    // NULL is no data set, which is legal: a handle that is none was drawn as the number 0.
                    self.made(status, out, kind, if data.is_null() && !without { None } else { expected });
                }
                3 => {
                    let (trainer, kind) = self.trainer();
                    let status = biv_trainer_step(trainer, null_mut());
                    check_status(status);
                    assert!(kind.is_some() || status == BIV_ERROR_INVALID_HANDLE);
                    if let Some(Kind::Trainer { has_data, .. }) = kind {
                        assert_eq!(status == BIV_ERROR_UNSUPPORTED, !has_data);
                    }
                }
                4 => {
                    let ((trainer, kind), (data, data_kind)) = (self.trainer(), self.dataset());
                    let mut metrics: biv_metrics = std::mem::zeroed();
                    metrics.struct_size = size_of::<biv_metrics>();
                    let status = biv_trainer_evaluate(trainer, data, &mut metrics);
                    check_status(status);
                    match (kind, data_kind) {
                        (Some(Kind::Trainer { inputs, .. }), Some(Kind::Dataset { features, rows, .. })) => {
                            assert!(inputs == features || status == BIV_ERROR_SHAPE);
                            assert!(status != BIV_OK || metrics.rows == rows as i64);
                        }
                        _ => assert_eq!(status, BIV_ERROR_INVALID_HANDLE),
                    }
                }
                5 => {
                    let (model, kind) = self.model();
                    let (rows, columns) = (self.byte() % 5, self.byte() % 5);
                    let x = vec![0.5f32; rows * columns];
                    let mut predictions = vec![7.0f64; rows];
                    let shape = [rows as i64];
                    let out = biv_array_out {
                        data: predictions.as_mut_ptr().cast(),
                        dtype: BIV_F64,
                        rank: 1,
                        shape: shape.as_ptr(),
                        strides: null(),
                        size: rows as i64,
                    };
                    let status = biv_model_predict(model, &array(&x, &[rows as i64, columns as i64]), &out);
                    check_status(status);
                    match kind {
                        Some(Kind::Model { inputs }) => assert!(status != BIV_OK || inputs == columns || rows == 0),
                        _ => assert_eq!(status, BIV_ERROR_INVALID_HANDLE),
                    }
                    assert!(status == BIV_OK || predictions.iter().all(|value| *value == 7.0));
                }
                6 => {
                    let (data, kind) = self.dataset();
                    let indices: Vec<i64> = (0..self.byte() % 5).map(|_| self.byte() as i64 % 14 - 1).collect();
                    let mut out = null_mut();
                    let status = biv_dataset_subset(data, indices.as_ptr(), indices.len(), &mut out);
                    let (kind, legal) = match kind {
                        Some(Kind::Dataset { rows, features, variances }) => (
                            Some(Kind::Dataset { rows: indices.len(), features, variances }),
                            !indices.is_empty() && indices.iter().all(|&row| (0..rows as i64).contains(&row)),
                        ),
                        _ => (None, false),
                    };
                    self.made(status, out, kind, Some(legal));
                }
                7 => {
                    let (data, kind) = self.dataset();
                    let mut info: biv_dataset_info = std::mem::zeroed();
                    info.struct_size = size_of::<biv_dataset_info>();
                    let status = biv_dataset_get_info(data, &mut info);
                    check_status(status);
                    match kind {
                        Some(Kind::Dataset { rows, .. }) => assert_eq!((status, info.rows), (BIV_OK, rows as i64)),
                        _ => assert_eq!(status, BIV_ERROR_INVALID_HANDLE),
                    }
                }
                8 => {
                    let (trainer, kind) = self.trainer();
                    let mut out = null_mut();
                    let status = biv_trainer_get_model(trainer, &mut out);
                    let made = match kind {
                        Some(Kind::Trainer { inputs, .. }) => Some(Kind::Model { inputs }),
                        _ => None,
                    };
                    self.made(status, out, made, Some(kind.is_some()));
                }
                9 => {
                    let (trainer, kind) = self.trainer();
                    let epochs = self.byte() as i64 % 5 - 1;
                    let status = biv_trainer_fit(trainer, epochs, null(), None, null_mut());
                    check_status(status);
                    assert!(kind.is_some() || status != BIV_OK);
                    assert!(epochs >= 0 || status != BIV_OK);
                }
                10 => {
                    let (trainer, kind) = self.trainer();
                    let rate = [0.01, 0.0, -1.0, f64::NAN, f64::INFINITY, 1e30][self.byte() % 6];
                    let status = biv_trainer_set_learning_rate(trainer, rate);
                    check_status(status);
                    assert_eq!(status == BIV_OK, kind.is_some() && rate > 0.0 && rate.is_finite());
                }
                11 => {
                    let (trainer, kind) = self.trainer();
                    let (rows, columns) = (self.byte() % 4, 1 + self.byte() % 4);
                    let x = vec![0.25f32; rows * columns];
                    let y = vec![1.0f64; rows];
                    let shape = [rows as i64];
                    let v = array(&y, &shape);
                    let variances = if self.byte() % 2 == 1 { &raw const v } else { null() };
                    let status = biv_trainer_step_on(
                        trainer,
                        &array(&x, &[rows as i64, columns as i64]),
                        &array(&y, &shape),
                        variances,
                        null_mut(),
                    );
                    check_status(status);
                    if let Some(Kind::Trainer { inputs, needs_variances, .. }) = kind {
                        let fits = rows > 0 && inputs == columns && (!needs_variances || !variances.is_null());
                        assert!(fits || status != BIV_OK);
                    } else {
                        assert_ne!(status, BIV_OK);
                    }
                }
                12 => {
                    let (data, kind) = self.dataset();
                    let json = [r#"{"distribution": {"kind": "gamma", "mean": 1, "variance": 2}}"#, "{}", "{", "[]"];
                    let which = self.byte() % json.len();
                    let mut out = null_mut();
                    let status = biv_dataset_add_noise(data, c_string(json[which].as_bytes()).as_ptr(), &mut out);
                    let made = match kind {
                        Some(Kind::Dataset { rows, features, .. }) => Some(Kind::Dataset { rows, features, variances: true }),
                        _ => None,
                    };
                    self.made(status, out, made, if kind.is_some() && which < 1 { Some(true) } else { None });
                }
                13 => {
                    check_status(biv_trainer_cancel(self.trainer().0));
                }
                _ => {
                    // Freed by the right function or by another's: only the right one may free it.
                    let choice = self.byte();
                    let count = self.handles.len().max(1);
                    let Some(handle) = self.handles.get_mut(choice / 4 % count) else { return };
                    let address = handle.address;
                    let right = match (choice % 4, handle.kind) {
                        (0, kind) => {
                            biv_dataset_free(address as *mut _);
                            matches!(kind, Kind::Dataset { .. })
                        }
                        (1, kind) => {
                            biv_model_free(address as *mut _);
                            matches!(kind, Kind::Model { .. })
                        }
                        (2, kind) => {
                            biv_trainer_free(address as *mut _);
                            matches!(kind, Kind::Trainer { .. })
                        }
                        _ => {
                            biv_text_free(address as *mut _);
                            false
                        }
                    };
                    handle.alive &= !right;
                }
            }
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let mut world = World { bytes: input.iter(), handles: vec![] };
    let mut calls = 0;
    while world.bytes.len() > 0 && calls < 64 {
        world.call();
        calls += 1;
    }
    for handle in world.handles {
        biv_dataset_free(handle.address as *mut _);
        biv_model_free(handle.address as *mut _);
        biv_trainer_free(handle.address as *mut _);
    }
});
