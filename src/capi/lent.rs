//! Arrays that a host lends instead of having them copied.

use super::array::{Lender, biv_array, view_of};
use super::boundary::{boundary, without_locks};
use super::caller::in_host;
use super::dataset::biv_dataset;
use super::handle;
use super::pointer;
use super::status::biv_status;
use crate::Result;
use crate::data::array::ArrayView;
use crate::data::{ArrayOptions, Dataset};
use std::ffi::{c_char, c_void};
use std::sync::Arc;

/// Called once when the library no longer needs what was lent.
///
/// It may be called on any thread that is in a function of the library, which holds no lock then, or on one of the
/// library's own. It must return normally, and may call every function of the library.
pub type biv_release_callback = Option<unsafe extern "C-unwind" fn(user: *mut c_void)>;

/// As biv_dataset_create(), of arrays that are lent: what is dense, in row-major order and of the type that is kept is
/// not copied. That is float for features, double for labels and for the variances of their noise; groups, standard
/// deviations and all other arrays are copied.
///
/// What was lent must stay where it is and must not change until `release` is called: when the last data set or trainer
/// that shares it is freed, when nothing had to be kept, or when the call fails. The values are checked during this call
/// only.
///
/// @param features @param labels @param noise @param groups @param options as for biv_dataset_create(). The structs
///   themselves are read during the call only.
/// @param release called once with `user`, whatever this function returns; NULL for memory that stays for good.
/// @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
/// @return as biv_dataset_create_from_arrays(), and BIV_ERROR_INVALID_CONFIG. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_dataset_create_borrowed(
    features: *const biv_array,
    labels: *const biv_array,
    noise: *const biv_array,
    groups: *const biv_array,
    release: biv_release_callback,
    user: *mut c_void,
    options: *const c_char,
    out: *mut *mut biv_dataset,
) -> biv_status {
    let lender: Lender = Arc::new(Release { release, user });
    // SAFETY: the header's contract for all pointers.
    boundary(move || unsafe {
        handle::create(out, || {
            let (features, labels) = (lent(features, "features", &lender)?, lent(labels, "labels", &lender)?);
            let noise = (!noise.is_null()).then(|| lent(noise, "noise", &lender)).transpose()?;
            let groups = (!groups.is_null()).then(|| lent(groups, "groups", &lender)).transpose()?;
            let options: ArrayOptions = pointer::options(options, "arrays")?;
            Dataset::from_arrays_with(&features, &labels, noise.as_ref(), groups.as_ref(), &options).map(Arc::new)
        })
    })
}

/// A view of a lent array.
///
/// # Safety
/// As [`view_of`].
unsafe fn lent<'a>(array: *const biv_array, name: &str, lender: &Lender) -> Result<ArrayView<'a>> {
    // SAFETY: the caller's promise.
    unsafe { view_of(pointer::read(array, name)?, name, Some(lender)) }
}

/// A host's callback: dropped, it is called.
struct Release {
    release: biv_release_callback,
    user: *mut c_void,
}

// SAFETY: the header says that the callback may be called on any thread.
unsafe impl Send for Release {}
// SAFETY: as above; nothing is shared but what does not change.
unsafe impl Sync for Release {}

impl Drop for Release {
    fn drop(&mut self) {
        let Release { release: Some(release), user } = *self else { return };
        // SAFETY: the header's contract for a callback.
        without_locks(move || in_host(|| unsafe { release(user) }));
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;
    use std::ptr::{null, null_mut};
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    unsafe extern "C-unwind" fn count(user: *mut c_void) {
        // SAFETY: the tests pass a counter that outlives the data sets.
        unsafe { (*user.cast::<AtomicUsize>()).fetch_add(1, SeqCst) };
    }

    fn described<T>(values: &[T], shape: &[i64], strides: *const i64) -> biv_array {
        let dtype = if size_of::<T>() == 4 { BIV_F32 } else { BIV_F64 };
        let data = values.as_ptr().cast();
        biv_array { data, dtype, rank: shape.len() as i32, shape: shape.as_ptr(), strides, size: 0 }
    }

    #[test]
    fn what_is_dense_and_of_the_kept_type_is_not_copied() {
        let (x, y, v) = ([1.0f32, 2.0, 3.0, 4.0], [5.0f64, 6.0], [0.5f64, 1.5]);
        let (released, mut data, mut part) = (AtomicUsize::new(0), null_mut(), null_mut());
        let user = (&raw const released).cast_mut().cast();
        let (rows, matrix) = ([2i64], [2i64, 2]);
        let noise = described(&v, &rows, null());
        let make = |features: &biv_array, labels: &biv_array, options: *const c_char, out| {
            // SAFETY: arrays as large as their shapes, a C string or NULL, a place for a handle.
            unsafe { biv_dataset_create_borrowed(features, labels, &noise, null(), Some(count), user, options, out) }
        };
        let (features, labels) = (described(&x, &matrix, null()), described(&y, &rows, null()));
        assert_eq!(make(&features, &labels, null(), &mut data), BIV_OK);
        {
            let data: Arc<Dataset> = handle::get(data).unwrap();
            assert_eq!(data.feature_values().unwrap().as_ptr(), x.as_ptr());
            assert_eq!(data.labels().as_ptr(), y.as_ptr());
            assert_eq!(data.variances().unwrap().as_ptr(), v.as_ptr());
        }
        // A part is a copy of its own.
        // SAFETY: one index, and a place for a handle.
        assert_eq!(unsafe { biv_dataset_subset(data, [1i64].as_ptr(), 1, &mut part) }, BIV_OK);
        assert_eq!(released.load(SeqCst), 0);
        biv_dataset_free(data);
        assert_eq!(released.load(SeqCst), 1);
        assert_eq!(handle::get(part).unwrap().labels(), [6.0]);
        biv_dataset_free(part);

        // By columns, in single precision and as standard deviations: nothing has to be kept.
        let (by_columns, single) = ([1i64, 2], [5.0f32, 6.0]);
        let options = cr#"{"standard_deviations": true}"#.as_ptr();
        let (features, labels) = (described(&x, &matrix, by_columns.as_ptr()), described(&single, &rows, null()));
        assert_eq!(make(&features, &labels, options, &mut data), BIV_OK);
        assert_eq!(released.load(SeqCst), 2);
        {
            let data = handle::get(data).unwrap();
            assert_eq!(&*data.feature_values().unwrap(), [1.0, 3.0, 2.0, 4.0]);
            assert_eq!(data.variances().unwrap(), [0.25, 2.25]);
        }
        biv_dataset_free(data);
        assert_eq!(released.load(SeqCst), 2);

        // Each failure gives back what it was lent.
        let (labels, nan) = (described(&y, &rows, null()), [f64::NAN, 1.0]);
        let faults: [(&biv_array, &biv_array, *const c_char, *mut *mut biv_dataset); 5] = [
            (&biv_array { data: null(), ..features }, &labels, null(), &mut data),
            (&features, &biv_array { dtype: 9, ..labels }, null(), &mut data),
            (&features, &described(&nan, &rows, null()), null(), &mut data),
            (&features, &labels, c"{".as_ptr(), &mut data),
            (&features, &labels, null(), null_mut()),
        ];
        for (number, &(features, labels, options, out)) in faults.iter().enumerate() {
            assert_ne!(make(features, labels, options, out), BIV_OK);
            assert_eq!(released.load(SeqCst), 3 + number);
        }
        // SAFETY: arrays as large as their shapes; nobody is told.
        let status = unsafe {
            let (null, user) = (null(), null_mut());
            biv_dataset_create_borrowed(&features, &labels, null, null, None, user, std::ptr::null(), &mut data)
        };
        assert_eq!(status, BIV_OK);
        biv_dataset_free(data);
    }

    /// Frees and makes data sets when the call that let go of the memory is still under way.
    #[test]
    fn a_release_may_call_the_library() {
        unsafe extern "C-unwind" fn call(user: *mut c_void) {
            let (values, mut data) = ([1.0f64], null_mut());
            let array = described(&values, &[1], null());
            // SAFETY: arrays as large as their shapes; the counter outlives the data set.
            unsafe {
                assert_eq!(biv_dataset_create_from_arrays(&array, &array, null(), &mut data), BIV_OK);
                count(user);
            }
            biv_dataset_free(data);
        }
        let (x, y, released, mut data) = ([1.0f32], [1.0f64], AtomicUsize::new(0), null_mut());
        let (features, labels) = (described(&x, &[1], null()), described(&y, &[1], null()));
        let user = (&raw const released).cast_mut().cast();
        for (labels, status) in [(&labels, BIV_OK), (&features, BIV_OK), (&biv_array { dtype: 9, ..labels }, 1)] {
            // SAFETY: as above.
            let found = unsafe {
                let null = null::<biv_array>();
                biv_dataset_create_borrowed(
                    &features,
                    labels,
                    null,
                    null,
                    Some(call),
                    user,
                    std::ptr::null(),
                    &mut data,
                )
            };
            assert_eq!(found, status);
            biv_dataset_free(data);
        }
        assert_eq!(released.load(SeqCst), 3);
        // What happened while a lock was held happens after it.
        static LOCK: parking_lot::Mutex<()> = parking_lot::Mutex::new(());
        unsafe extern "C-unwind" fn take_lock(_: *mut c_void) {
            assert!(LOCK.try_lock().is_some());
        }
        let release = Release { release: Some(take_lock), user: null_mut() };
        let status = boundary(move || {
            let _locked = LOCK.lock();
            drop(release);
            Ok(())
        });
        assert_eq!(status, BIV_OK);
    }

    #[test]
    fn lent_memory_is_shared_where_it_is_in_c_order() {
        let values = [1.0f64, 2.0, 3.0, 4.0];
        let shared = |strides: *const i64| {
            let lender: Lender = Arc::new(());
            // SAFETY: the array is as large as its shape and outlives the view.
            let view = unsafe { lent(&described(&values, &[2, 2], strides), "values", &lender) }.unwrap();
            view.to_shared_f64().unwrap().as_ptr() == values.as_ptr()
        };
        assert!(shared(null()) && shared([2, 1].as_ptr()) && !shared([1, 2].as_ptr()));
    }
}
