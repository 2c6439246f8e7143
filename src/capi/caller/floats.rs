//! A thread's floating-point modes: rounding, denormal numbers and traps. The flags that say what has happened are none.

/// The modes, by the registers that hold them.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Floats {
    /// Of SSE and AVX.
    mxcsr: u32,
    /// Of the x87, which computes C's `long double`.
    x87: u16,
}

#[cfg(target_arch = "aarch64")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Floats {
    fpcr: u64,
}

#[cfg(target_arch = "x86_64")]
impl Floats {
    /// As a process starts.
    const ORDINARY: Floats = Floats { mxcsr: 0x1f80, x87: 0x37f };

    /// This thread's.
    pub(super) fn get() -> Self {
        const FLAGS: u32 = 0x3f;
        let Floats { mut mxcsr, mut x87 } = Self::ORDINARY;
        if !cfg!(miri) {
            // SAFETY: both instructions write a word of their operand's size.
            unsafe {
                std::arch::asm!("stmxcsr [{}]", "fnstcw [{}]", in(reg) &raw mut mxcsr, in(reg) &raw mut x87,
                    options(nostack, preserves_flags));
            }
        }
        Floats { mxcsr: mxcsr & !FLAGS, x87 }
    }

    /// Makes them this thread's. Where they are already, flags stay as they are: to set them takes long.
    pub(super) fn set(self) {
        let now = Floats::get();
        if self.mxcsr != now.mxcsr {
            // SAFETY: the value is one that stmxcsr gave, or the ordinary one.
            unsafe {
                std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const self.mxcsr, options(nostack, preserves_flags));
            }
        }
        if self.x87 != now.x87 {
            // SAFETY: the value is one that fnstcw gave, or the ordinary one. Flags are cleared first: else they would trap.
            unsafe {
                std::arch::asm!("fnclex", "fldcw [{}]", in(reg) &raw const self.x87, options(nostack, preserves_flags));
            }
        }
    }
}

#[cfg(target_arch = "aarch64")]
impl Floats {
    /// As a process starts.
    const ORDINARY: Floats = Floats { fpcr: 0 };

    /// This thread's.
    pub(super) fn get() -> Self {
        let Floats { mut fpcr } = Self::ORDINARY;
        if !cfg!(miri) {
            // SAFETY: the register may be read at any time.
            unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) fpcr, options(nostack)) };
        }
        Floats { fpcr }
    }

    /// Makes them this thread's.
    pub(super) fn set(self) {
        if self != Floats::get() {
            // SAFETY: the value is one that mrs gave, or the ordinary one.
            unsafe { std::arch::asm!("msr fpcr, {}", in(reg) self.fpcr, options(nostack)) };
        }
    }
}

impl Floats {
    /// Sets the ordinary modes, and gives those that this thread had.
    pub(super) fn replace_by_ordinary() -> Self {
        let before = Floats::get();
        if before != Self::ORDINARY {
            Self::ORDINARY.set();
        }
        before
    }
}

#[cfg(test)]
impl Floats {
    /// The same that round up.
    pub(super) fn rounding_up(mut self) -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            self.mxcsr |= 0x4000;
            self.x87 |= 0x800;
        }
        #[cfg(target_arch = "aarch64")]
        {
            self.fpcr |= 1 << 22;
        }
        self
    }

    /// The same for which denormal numbers are 0.
    pub(super) fn flushing(mut self) -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            self.mxcsr |= 0x8040;
        }
        #[cfg(target_arch = "aarch64")]
        {
            self.fpcr |= 1 << 24;
        }
        self
    }
}
