//! The emulator's C interface, `cpp/emulator/emulator.h` of `maitre-gpu-emulator`.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::NonNull;

use super::OwnedLaunch;
use crate::TensorError;
use crate::gpu::{BoxedMatrix, RawArg};

mod sys {
    use std::ffi::{c_char, c_int, c_void};

    unsafe extern "C" {
        pub(super) fn emulator_launch(
            kernel: *const c_char,
            grid: *const u32,
            threads: u32,
            shared_bytes: u32,
            args: *const *mut c_void,
            num_args: u32,
            message: *mut c_char,
            message_len: usize,
        ) -> c_int;
        pub(super) fn emulator_signature(kernel: *const c_char) -> *const c_char;
        pub(super) fn emulator_seed(seed: u64);
        pub(super) fn emulator_heap_new() -> *mut c_void;
        pub(super) fn emulator_heap_drop(heap: *mut c_void);
        pub(super) fn emulator_allocate(heap: *mut c_void, bytes: usize) -> *mut c_void;
        pub(super) fn emulator_free(heap: *mut c_void, start: *mut c_void) -> c_int;
        pub(super) fn emulator_holds(
            heap: *const c_void,
            start: *const c_void,
            bytes: usize,
        ) -> c_int;
        pub(super) fn emulator_check(
            heap: *mut c_void,
            message: *mut c_char,
            message_len: usize,
        ) -> c_int;
    }
}

/// Memory with guard zones, and what runs on it.
pub(super) struct Heap(NonNull<c_void>);

// SAFETY: the heap is bound to no thread; calls come one at a time, as those that change it take `&mut self`.
unsafe impl Send for Heap {}

impl Heap {
    pub(super) fn new() -> Result<Self, TensorError> {
        // SAFETY: takes nothing, and answers null or a heap that is ours.
        let heap = unsafe { sys::emulator_heap_new() };
        NonNull::new(heap).map(Self).ok_or(TensorError::Reserve {
            what: "the emulator",
            bytes: size_of::<usize>(),
        })
    }

    /// The address of so many zero bytes, or nothing when there is no memory left.
    pub(super) fn allocate(&mut self, bytes: usize) -> Option<u64> {
        // SAFETY: the heap is live.
        let start = unsafe { sys::emulator_allocate(self.0.as_ptr(), bytes) };
        NonNull::new(start).map(|start| start.as_ptr() as u64)
    }

    /// Whether there was an allocation that begins there.
    pub(super) fn free(&mut self, address: u64) -> bool {
        // SAFETY: the heap is live, and looks the address up.
        unsafe { sys::emulator_free(self.0.as_ptr(), address as *mut c_void) == 0 }
    }

    /// Whether the bytes lie within one allocation.
    pub(super) fn holds(&self, address: u64, bytes: usize) -> bool {
        // SAFETY: as in `free`.
        unsafe { sys::emulator_holds(self.0.as_ptr(), address as *const c_void, bytes) != 0 }
    }

    /// Runs a kernel, and says what was wrong with it.
    ///
    /// # Safety
    /// What the kernel reads and writes lies within live allocations (a little beside them is noticed).
    pub(super) unsafe fn launch(&mut self, launch: &OwnedLaunch, seed: u64) -> Result<(), String> {
        let kernel = CString::new(launch.kernel).map_err(|error| error.to_string())?;
        self.check_args(&kernel, launch)?;
        let mut values: Vec<Value> = launch.args.iter().map(Value::of).collect();
        let pointers: Vec<*mut c_void> = values
            .iter_mut()
            .map(|value| (&raw mut value.0).cast())
            .collect();
        let mut message = [0; MESSAGE_BYTES];
        // SAFETY: each pointer leads to a value of the type that the kernel declares, checked above, as is
        // their number; the rest is the caller's promise.
        let failed = unsafe {
            sys::emulator_seed(seed);
            sys::emulator_launch(
                kernel.as_ptr(),
                launch.grid.as_ptr(),
                launch.threads,
                launch.shared_bytes,
                pointers.as_ptr(),
                u32::try_from(pointers.len()).unwrap_or(u32::MAX),
                message.as_mut_ptr(),
                MESSAGE_BYTES,
            )
        };
        said(failed, &message)?;
        // SAFETY: the heap is live, and the message has that size.
        let failed =
            unsafe { sys::emulator_check(self.0.as_ptr(), message.as_mut_ptr(), MESSAGE_BYTES) };
        said(failed, &message)
    }

    fn check_args(&self, kernel: &CStr, launch: &OwnedLaunch) -> Result<(), String> {
        // SAFETY: a name that ends with zero.
        let signature = unsafe { sys::emulator_signature(kernel.as_ptr()) };
        if signature.is_null() {
            return Err(format!("there is no kernel {}", launch.kernel));
        }
        // SAFETY: answers a string that lives as long as the process.
        let signature = unsafe { CStr::from_ptr(signature) }.to_bytes();
        let given: Vec<u8> = launch.args.iter().map(letter).collect();
        if signature != given {
            return Err(format!(
                "kernel {} takes {:?}, but was given {:?} (p pointer, u u32, i i32, f f32, m matrix)",
                launch.kernel,
                String::from_utf8_lossy(signature),
                String::from_utf8_lossy(&given),
            ));
        }
        for (index, arg) in launch.args.iter().enumerate() {
            let lies_within = match *arg {
                RawArg::Address(address) => address == 0 || self.holds(address, 0),
                RawArg::Matrix(address, matrix) => self.holds(address, extent(&matrix)),
                RawArg::U32(_) | RawArg::I32(_) | RawArg::F32(_) => true,
            };
            if !lies_within {
                return Err(format!(
                    "argument {index} of kernel {} points to no live allocation",
                    launch.kernel
                ));
            }
            check_matrix(arg).map_err(|error| {
                format!("argument {index} of kernel {}: {error}", launch.kernel)
            })?;
        }
        Ok(())
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        // SAFETY: made in `new`, and dropped only here.
        unsafe { sys::emulator_heap_drop(self.0.as_ptr()) };
    }
}

const MESSAGE_BYTES: usize = 1024;

fn said(failed: c_int, message: &[c_char; MESSAGE_BYTES]) -> Result<(), String> {
    if failed == 0 {
        return Ok(());
    }
    // SAFETY: the array is zeroed at first, and its last byte stays so.
    let message = unsafe { CStr::from_ptr(message.as_ptr()) };
    Err(message.to_string_lossy().into_owned())
}

fn letter(arg: &RawArg) -> u8 {
    match arg {
        RawArg::Address(_) => b'p',
        RawArg::Matrix(..) => b'm',
        RawArg::U32(_) => b'u',
        RawArg::I32(_) => b'i',
        RawArg::F32(_) => b'f',
    }
}

/// Bytes from the first number of a matrix to behind its last.
fn extent(matrix: &BoxedMatrix) -> usize {
    let rows = matrix.sizes[1..].iter().zip(matrix.strides);
    let last: u64 = rows
        .map(|(size, stride)| size.saturating_sub(1) * stride)
        .sum();
    usize::try_from(last + matrix.sizes[0] * 2).unwrap_or(usize::MAX)
}

/// What the driver refuses (CUDA driver API, `cuTensorMapEncodeTiled`).
fn check_matrix(arg: &RawArg) -> Result<(), String> {
    let RawArg::Matrix(address, matrix) = arg else {
        return Ok(());
    };
    let rank = matrix.rank as usize;
    let are_rows = address % 16 == 0 && matrix.strides.iter().all(|stride| stride % 16 == 0);
    let are_sizes = matrix.sizes[..rank]
        .iter()
        .all(|size| (1..=1 << 32).contains(size));
    let are_boxes = matrix.boxes[..rank]
        .iter()
        .all(|side| (1..=256).contains(side));
    let is_padded = matrix.sizes[rank..].iter().all(|size| *size == 1)
        && matrix.boxes[rank..].iter().all(|side| *side == 1);
    if are_rows && are_sizes && are_boxes && is_padded {
        return Ok(());
    }
    Err(format!(
        "no matrix to take boxes of: {matrix:?} at {address:#x}"
    ))
}

/// An argument as it lies in memory, from the first byte on.
#[repr(align(128))]
struct Value([u8; 128]);

impl Value {
    fn of(arg: &RawArg) -> Self {
        let mut bytes = [0; 128];
        match *arg {
            RawArg::Matrix(address, matrix) => {
                // `Matrix` of emulator/device.h.
                let words = [address]
                    .into_iter()
                    .chain(matrix.sizes)
                    .chain(matrix.strides);
                for (place, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
                    *place = word.to_ne_bytes();
                }
                let places = bytes[64..].as_chunks_mut().0.iter_mut();
                for (place, side) in places.zip(matrix.boxes) {
                    *place = side.to_ne_bytes();
                }
            }
            RawArg::Address(address) => bytes[..8].copy_from_slice(&address.to_ne_bytes()),
            RawArg::U32(value) => bytes[..4].copy_from_slice(&value.to_ne_bytes()),
            RawArg::I32(value) => bytes[..4].copy_from_slice(&value.to_ne_bytes()),
            RawArg::F32(value) => bytes[..4].copy_from_slice(&value.to_ne_bytes()),
        }
        Self(bytes)
    }
}
