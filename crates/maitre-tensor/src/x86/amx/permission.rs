//! Whether this process may use tile registers.

use std::sync::LazyLock;

/// Whether the processor has tiles of bf16 and of bytes, and the system granted this process their
/// use. It is asked once; threads share the permission.
pub(crate) fn is_granted() -> bool {
    static GRANTED: LazyLock<bool> = LazyLock::new(|| has_tiles() && request());
    *GRANTED
}

/// What `is_x86_feature_detected!` would say of `amx-tile`, `amx-bf16` and `amx-int8`, whose names
/// the compiler does not yet take.
fn has_tiles() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};

    /// CPUID leaf 7, EDX: AMX-BF16, AMX-TILE, AMX-INT8.
    const INSTRUCTIONS: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    /// CPUID leaf 1Dh, subleaf 1: bytes of a register, bytes of a row, registers, rows.
    const PALETTE: [u32; 3] = [1024 << 16 | 8192, 8 << 16 | 64, 16];

    if __cpuid(0).eax < 0x1d || __cpuid_count(7, 0).edx & INSTRUCTIONS != INSTRUCTIONS {
        return false;
    }
    let palette = __cpuid_count(0x1d, 1);
    [palette.eax, palette.ebx, palette.ecx & 0xffff] == PALETTE
}

/// Asks Linux for the permission to keep tiles, refused by default because a thread's state grows by 8 KiB
/// (Documentation/arch/x86/xstate.rst). It answers with an error where the system does not save them, or where a thread has an
/// alternate signal stack too small for them; once it was given, Linux refuses such stacks.
#[cfg(target_os = "linux")]
fn request() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;

    // SAFETY: the call takes two numbers, and touches no memory of this process.
    unsafe {
        libc::syscall(
            libc::SYS_arch_prctl,
            ARCH_REQ_XCOMP_PERM,
            XFEATURE_XTILEDATA,
        ) == 0
    }
}

/// Other systems are not known here.
#[cfg(not(target_os = "linux"))]
fn request() -> bool {
    false
}
