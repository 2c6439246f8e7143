//! Devices by name: `cpu`, `cuda`, `cuda:N`, `auto`.

use super::runtime::load_cuda;
use crate::base::options::require;
use crate::base::threads::try_out;
use crate::{Error, Result};
use std::sync::Once;
use tch::{Cuda, Device};

/// The device called `name`. CUDA's libraries are loaded when it is first asked
/// for, so one build runs on machines with and without them.
///
/// # Errors
/// [`Error::Device`] for a device that cannot be used here; [`Error::InvalidArgument`] for another name.
pub fn resolve(name: &str) -> Result<Device> {
    let index = match name {
        "cpu" => return Ok(Device::Cpu),
        "auto" => return Ok(if cuda_device_count() > 0 { Device::Cuda(0) } else { Device::Cpu }),
        "cuda" => Some(0),
        _ => name.strip_prefix("cuda:").and_then(|index| index.parse::<usize>().ok()),
    };
    let Some(index) = index else {
        return Err(Error::InvalidArgument(format!(
            "device '{name}' is unknown, allowed are 'cpu', 'cuda', 'cuda:N' and 'auto'"
        )));
    };
    load_cuda().map_err(|cause| {
        Error::Device(format!("device '{name}' cannot be used: libtorch's CUDA libraries are not there ({cause})"))
    })?;
    match cuda_device_count() {
        0 => Err(Error::Device(format!("device '{name}' cannot be used: there is no NVIDIA GPU, or no driver for it"))),
        count if index >= count => Err(Error::Device(format!(
            "device '{name}' does not exist, there are {count}: cuda:0 to cuda:{}",
            count - 1
        ))),
        _ => Ok(Device::Cuda(index)),
    }
}

/// The number of CUDA devices that can be used; 0 where CUDA is missing.
pub fn cuda_device_count() -> usize {
    match load_cuda() {
        Ok(()) if Cuda::is_available() => Cuda::device_count().max(0) as usize,
        _ => 0,
    }
}

/// How many threads libtorch uses inside one operation on the CPU, in the whole process.
///
/// libtorch's own default counts the processors that the process may run on, but not a limit of their time, which a
/// container often has: more threads than that limit has processors wait for each other. The first call lowers the
/// default to it. A number that the host or the environment has set stays.
pub fn threads() -> usize {
    static OBEYED: Once = Once::new();
    OBEYED.call_once(|| {
        let set = ["OMP_NUM_THREADS", "MKL_NUM_THREADS"].iter().any(|name| std::env::var_os(name).is_some());
        let limit = std::thread::available_parallelism().map_or(usize::MAX, usize::from);
        if !set && torch_threads() == affinity() && limit < torch_threads() {
            tch::set_num_threads(limit as i32);
        }
    });
    torch_threads()
}

fn torch_threads() -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1).max(1)
}

/// On how many processors the process may run; 0 where the system does not tell.
#[cfg(target_os = "linux")]
fn affinity() -> usize {
    // SAFETY: a `cpu_set_t` is a set of bits, for which zeros are the empty one; the call writes no more than its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        match libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) {
            0 => libc::CPU_COUNT(&set) as usize,
            _ => 0,
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn affinity() -> usize {
    0
}

/// Sets how many threads libtorch uses inside one operation on the CPU, in the whole process.
///
/// # Errors
/// [`Error::InvalidConfig`] unless it is 1 to 1024, [`Error::OutOfMemory`] when the system does not start so many.
pub fn set_threads(threads: i32) -> Result<()> {
    require((1..=1024).contains(&threads), "threads", threads, "1 to 1024")?;
    try_out(threads as usize - 1)?;
    // What comes first is no default.
    self::threads();
    tch::set_num_threads(threads);
    Ok(())
}

/// The name that [`resolve`] takes for `device`.
pub fn name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => "cpu".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_resolve_or_say_what_is_wrong() {
        assert_eq!(resolve("cpu").unwrap(), Device::Cpu);
        assert!(resolve("gpu").unwrap_err().to_string().contains("allowed are 'cpu', 'cuda', 'cuda:N' and 'auto'"));
        if cuda_device_count() == 0 {
            assert_eq!(resolve("auto").unwrap(), Device::Cpu);
            assert!(resolve("cuda").unwrap_err().to_string().starts_with("device 'cuda' cannot be used"));
        } else {
            assert_eq!(resolve("auto").unwrap(), Device::Cuda(0));
            assert!(resolve("cuda:99").unwrap_err().to_string().contains("does not exist"));
        }
    }
}
