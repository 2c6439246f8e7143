//! Modes of libtorch that are set for a time: autocast, inference mode, and switches of the whole process.

use super::ffi::{message, torch};
use crate::{Error, Result};
use parking_lot::Mutex;
use std::ffi::{c_char, c_int};
use std::marker::PhantomData;
use tch::Device;

/// A `c10::InferenceMode`, only ever behind a pointer.
#[repr(C)]
struct InferenceMode {
    _private: [u8; 0],
}

/// A thread's autocast for one type of device, as `biv_torch_autocast` in `runtime.cpp`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct AutocastState {
    enabled: bool,
    cached: bool,
    /// An `at::ScalarType`.
    dtype: i8,
}

const _: () = assert!(size_of::<AutocastState>() == 3 && std::mem::offset_of!(AutocastState, dtype) == 2);

unsafe extern "C" {
    fn biv_torch_autocasts_on_cpu() -> bool;
    fn biv_torch_autocast_set(cuda: bool, enabled: bool, before: *mut AutocastState) -> *mut c_char;
    fn biv_torch_autocast_restore(cuda: bool, before: *const AutocastState) -> *mut c_char;
    fn biv_torch_ordinary_mode_enter() -> *mut InferenceMode;
    fn biv_torch_ordinary_mode_leave(mode: *mut InferenceMode);
    fn biv_torch_switch(which: c_int, on: bool, before: *mut bool) -> *mut c_char;
}

/// Whether this thread's operations on the CPU are cast to bfloat16 where that is safe.
pub(crate) fn autocasts_on_cpu() -> bool {
    // SAFETY: the function takes nothing and may be called at any time.
    unsafe { biv_torch_autocasts_on_cpu() }
}

/// While it lives, this thread's autocast is bfloat16 or off, whatever the host
/// has set; then it is as before.
#[derive(Debug)]
pub(crate) struct Autocast {
    cuda: bool,
    before: AutocastState,
    /// It belongs to the thread that made it.
    _not_send: PhantomData<*const ()>,
}

impl Autocast {
    /// For operations on `device`.
    pub(crate) fn new(device: Device, enabled: bool) -> Result<Self> {
        let cuda = device.is_cuda();
        let mut before = AutocastState::default();
        // SAFETY: `before` is a place for the state, and lives through the call.
        message(unsafe { biv_torch_autocast_set(cuda, enabled, &mut before) }).map_err(Error::Internal)?;
        Ok(Autocast { cuda, before, _not_send: PhantomData })
    }
}

impl Drop for Autocast {
    fn drop(&mut self) {
        // SAFETY: `before` is a state that C++ wrote.
        let restored = message(unsafe { biv_torch_autocast_restore(self.cuda, &self.before) });
        debug_assert_eq!(restored, Ok(()), "libtorch takes back the state that it gave");
    }
}

/// While it lives, this thread is in libtorch's ordinary mode: new tensors can be trained, even where the host is in
/// inference mode. Then it is as before.
pub(crate) struct OrdinaryMode(*mut InferenceMode);

impl OrdinaryMode {
    pub(crate) fn new() -> Self {
        // SAFETY: the function takes nothing and may be called at any time.
        OrdinaryMode(unsafe { biv_torch_ordinary_mode_enter() })
    }
}

impl Drop for OrdinaryMode {
    fn drop(&mut self) {
        // SAFETY: C++ gave the pointer, on this thread as it is not `Send`, and takes NULL too.
        unsafe { biv_torch_ordinary_mode_leave(self.0) };
    }
}

/// A switch of libtorch's that makes GPUs faster, for the whole process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    /// TF32 in products of matrices.
    MatrixTf32,
    /// TF32 in convolutions.
    ConvolutionTf32,
    /// Timing which algorithm for a convolution is the fastest.
    ConvolutionSearch,
}

impl Switch {
    /// Returns what it was.
    fn set(self, on: bool) -> Result<bool> {
        let mut before = false;
        // SAFETY: `before` is a place for the result.
        torch(unsafe { biv_torch_switch(self as c_int, on, &mut before) })?;
        Ok(before)
    }
}

/// Keeps a switch on. When the last one for the switch is dropped, it is as it was before the first.
#[derive(Debug)]
pub(crate) struct SwitchedOn(Switch);

/// For each switch, how many keep it on, and what it was before.
static SWITCHES: Mutex<[(usize, bool); 3]> = Mutex::new([(0, false); 3]);

impl SwitchedOn {
    pub(crate) fn new(switch: Switch) -> Result<Self> {
        let (count, before) = &mut SWITCHES.lock()[switch as usize];
        if *count == 0 {
            *before = switch.set(true)?;
        }
        *count += 1;
        Ok(SwitchedOn(switch))
    }
}

impl Drop for SwitchedOn {
    fn drop(&mut self) {
        let (count, before) = &mut SWITCHES.lock()[self.0 as usize];
        *count -= 1;
        if *count == 0 {
            let restored = self.0.set(*before);
            debug_assert!(restored.is_ok(), "libtorch takes back the state that it gave");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Kind, Tensor};

    /// The kind in which this thread multiplies matrices at present.
    fn kind_of_product() -> Kind {
        let ones = Tensor::f_ones([2, 2], (Kind::Float, Device::Cpu)).unwrap();
        ones.f_matmul(&ones).unwrap().kind()
    }

    #[test]
    fn autocast_leaves_the_threads_state_as_it_was() {
        let outer = Autocast::new(Device::Cpu, true).unwrap();
        assert_eq!(kind_of_product(), Kind::BFloat16);
        {
            let inner = Autocast::new(Device::Cpu, false).unwrap();
            assert_eq!((inner.before.enabled, inner.before.cached), (true, false));
            assert_eq!(kind_of_product(), Kind::Float, "a host's autocast is switched off");
        }
        assert_eq!(kind_of_product(), Kind::BFloat16);
        assert_eq!(std::thread::spawn(kind_of_product).join().unwrap(), Kind::Float, "other threads are not touched");
        let before = outer.before;
        drop(outer);
        assert_eq!(kind_of_product(), Kind::Float);
        let panicked = std::panic::catch_unwind(|| {
            let _autocast = Autocast::new(Device::Cpu, true).unwrap();
            panic!("within a forward pass");
        });
        assert!(panicked.is_err());
        assert_eq!(kind_of_product(), Kind::Float);
        assert_eq!(Autocast::new(Device::Cpu, false).unwrap().before, before);
    }

    #[test]
    fn a_switch_is_on_as_long_as_somebody_wants_it() {
        for switch in [Switch::MatrixTf32, Switch::ConvolutionTf32, Switch::ConvolutionSearch] {
            for before in [false, true] {
                let found = switch.set(before).unwrap();
                let (first, second) = (SwitchedOn::new(switch).unwrap(), SwitchedOn::new(switch).unwrap());
                drop(first);
                assert!(switch.set(true).unwrap(), "{switch:?}");
                drop(second);
                assert_eq!(switch.set(found).unwrap(), before, "{switch:?}");
            }
        }
    }
}
