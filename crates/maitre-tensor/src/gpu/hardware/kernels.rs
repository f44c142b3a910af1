//! The kernels that were compiled in, and how they are launched.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{CString, c_int, c_void};
use std::ptr;

use cudarc::driver::result::{function, module};
use cudarc::driver::sys::{self, CUfunction, CUfunction_attribute_enum as Attribute, CUmodule};

use super::context::{Stream, dotted};
use super::failure::{During, describe, failed, failed_by};
use crate::TensorError;
use crate::gpu::{GpuInfo, Launch, RawArg};

/// What a block may have without asking (CUDA programming guide, "Shared memory").
const SHARED_BYTES_UNASKED: u32 = 48 << 10;
/// The first driver that tells what a kernel's parameters are.
const DRIVER_WITH_PARAMETERS: u32 = 12_040;

/// Launches that ask for less shared memory than this fit however a multiprocessor divides its memory between that
/// and its first-level cache.
const SHARED_BYTES_OF_NOTE: u32 = 8 << 10;
/// All of what can be shared memory, in percent.
const WHOLE_CARVEOUT: c_int = 100;

/// The driver reads headers in it as words.
#[repr(C, align(64))]
struct Image<const BYTES: usize>([u8; BYTES]);

macro_rules! image {
    ($path:expr) => {{
        static IMAGE: Image<{ include_bytes!($path).len() }> = Image(*include_bytes!($path));
        &IMAGE.0
    }};
}

/// Kernel files, what `nvcc` made of them, and the kernels that are in them.
pub(super) static FILES: &[(&str, &[u8], &[&str])] =
    &include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// All kernels of a device.
pub(super) struct Kernels {
    /// One per file, in their order.
    modules: Vec<Module>,
    /// Those that were launched, by name.
    functions: HashMap<&'static str, Function>,
    shared_bytes_per_block: u32,
    driver_version: u32,
}

/// One kernel.
struct Function {
    raw: CUfunction,
    /// Bytes of each parameter that was given an argument, if the driver tells.
    parameters: Option<Vec<usize>>,
    /// Dynamic shared memory that it was given leave to use.
    shared_bytes: u32,
    /// Whether multiprocessors were asked to give it all the shared memory they have.
    has_carveout: bool,
}

impl Kernels {
    /// Loads every kernel file for the GPU whose context is current.
    pub(super) fn load(info: &GpuInfo) -> Result<Self, TensorError> {
        let modules = FILES
            .iter()
            .map(|(file, image, _)| Module::load(file, image, info));
        Ok(Self {
            modules: modules.collect::<Result<_, _>>()?,
            functions: HashMap::new(),
            shared_bytes_per_block: info.shared_bytes_per_block,
            driver_version: info.driver_version,
        })
    }

    /// Queues a launch.
    ///
    /// # Safety
    /// With these arguments the kernel stays within live allocations.
    pub(super) unsafe fn launch(
        &mut self,
        stream: &Stream,
        launch: &Launch<'_>,
    ) -> Result<(), TensorError> {
        let &Launch {
            kernel,
            grid: [x, y, z],
            threads,
            shared_bytes,
            args,
        } = launch;
        let function = self.prepare(kernel, shared_bytes, args)?;
        // The driver wants the address of each argument, and only reads there.
        let mut addresses: Vec<*mut c_void> = args.iter().map(address).collect();
        // SAFETY: the function belongs to a loaded module; the arguments have the sizes of its parameters
        // (checked where the driver tells them) and live until the call returns, by when it has copied
        // them. The caller vouches for what the kernel does with them.
        unsafe {
            sys::cuLaunchKernel(
                function.raw,
                x,
                y,
                z,
                threads,
                1,
                1,
                shared_bytes,
                stream.raw(),
                addresses.as_mut_ptr(),
                ptr::null_mut(),
            )
        }
        .result()
        .map_err(|error| {
            let shape =
                format!("{x} x {y} x {z} blocks of {threads} threads, {shared_bytes} bytes shared");
            failed_by(kernel, error, &format!(" ({shape})"))
        })
    }

    /// The kernel of that name, with leave to use so much shared memory, if it takes such arguments.
    fn prepare(
        &mut self,
        kernel: &'static str,
        shared_bytes: u32,
        args: &[RawArg],
    ) -> Result<&Function, TensorError> {
        let most = self.shared_bytes_per_block;
        if shared_bytes > most {
            return Err(failed(
                kernel,
                format!(
                    "a block needs {shared_bytes} bytes of shared memory, but this GPU has {most}"
                ),
            ));
        }
        let (driver_version, modules) = (self.driver_version, &self.modules);
        let function = match self.functions.entry(kernel) {
            Entry::Occupied(known) => {
                let function = known.into_mut();
                function.check(kernel, args)?;
                function
            }
            Entry::Vacant(place) => {
                let found = find(modules, kernel, args.len(), driver_version)?;
                found.check(kernel, args)?;
                place.insert(found)
            }
        };
        if shared_bytes >= SHARED_BYTES_OF_NOTE && !function.has_carveout {
            let attribute = Attribute::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT;
            function.set(kernel, attribute, WHOLE_CARVEOUT)?;
            function.has_carveout = true;
        }
        if shared_bytes > function.shared_bytes {
            let attribute = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function.set(kernel, attribute, shared_bytes as c_int)?;
            function.shared_bytes = shared_bytes;
        }
        Ok(function)
    }
}

/// A kernel that is to be given so many arguments, in the module of its file.
fn find(
    modules: &[Module],
    kernel: &'static str,
    args: usize,
    driver_version: u32,
) -> Result<Function, TensorError> {
    let file = FILES
        .iter()
        .position(|(_, _, kernels)| kernels.contains(&kernel));
    let loaded = file
        .and_then(|file| modules.get(file))
        .ok_or_else(|| missing(kernel))?;
    let name = CString::new(kernel).map_err(|_| missing(kernel))?;
    // SAFETY: the module is loaded.
    let raw = unsafe { module::get_function(loaded.0, name) }.during(kernel)?;
    let parameters = if driver_version >= DRIVER_WITH_PARAMETERS {
        Some(parameters(kernel, raw, args)?)
    } else {
        None
    };
    Ok(Function {
        raw,
        parameters,
        shared_bytes: SHARED_BYTES_UNASKED,
        has_carveout: false,
    })
}

/// Bytes of the first `count` parameters. That there is none behind them is not asked for: the driver would count
/// the answer as a failed call. The emulator, which knows each kernel's signature, refuses too few arguments.
fn parameters(
    kernel: &'static str,
    function: CUfunction,
    count: usize,
) -> Result<Vec<usize>, TensorError> {
    let ask = |index| {
        let (mut offset, mut bytes) = (0, 0);
        // SAFETY: the function belongs to a loaded module; the driver writes two numbers, or answers that there is
        // no such parameter.
        unsafe { sys::cuFuncGetParamInfo(function, index, &raw mut offset, &raw mut bytes) }
            .result()
            .map_err(|error| {
                let message = format!("it has no parameters for {count} arguments");
                failed(kernel, format!("{message}: {}", describe(error)))
            })?;
        Ok(bytes)
    };
    (0..count).map(ask).collect()
}

impl Function {
    fn set(
        &self,
        kernel: &'static str,
        attribute: Attribute,
        value: c_int,
    ) -> Result<(), TensorError> {
        // SAFETY: the function belongs to a loaded module.
        unsafe { function::set_function_attribute(self.raw, attribute, value) }.during(kernel)
    }

    /// A kernel that gets other arguments than it declares would read whatever lies behind them.
    fn check(&self, kernel: &'static str, args: &[RawArg]) -> Result<(), TensorError> {
        let Some(declared) = &self.parameters else {
            return Ok(());
        };
        let given = args.iter().map(|arg| match arg {
            RawArg::Address(_) => size_of::<u64>(),
            RawArg::U32(_) | RawArg::I32(_) | RawArg::F32(_) => size_of::<u32>(),
        });
        if given.clone().eq(declared.iter().copied()) {
            return Ok(());
        }
        let given: Vec<_> = given.collect();
        Err(failed(
            kernel,
            format!(
                "its parameters have {declared:?} bytes, but arguments of {given:?} bytes were given"
            ),
        ))
    }
}

/// Where the value of an argument lies.
pub(super) fn address(arg: &RawArg) -> *mut c_void {
    match arg {
        RawArg::Address(value) => ptr::from_ref(value).cast_mut().cast(),
        RawArg::U32(value) => ptr::from_ref(value).cast_mut().cast(),
        RawArg::I32(value) => ptr::from_ref(value).cast_mut().cast(),
        RawArg::F32(value) => ptr::from_ref(value).cast_mut().cast(),
    }
}

fn missing(kernel: &'static str) -> TensorError {
    failed(kernel, "no kernel of this name was compiled in".into())
}

/// A loaded kernel file.
struct Module(CUmodule);

impl Module {
    fn load(file: &str, image: &'static [u8], info: &GpuInfo) -> Result<Self, TensorError> {
        // SAFETY: the image is a complete fatbin, aligned, and lives as long as the program.
        let raw = unsafe { module::load_data(image.as_ptr().cast()) }.map_err(|error| {
            let (major, minor) = info.capability;
            failed(
                "open",
                format!(
                    "the kernels of {file} do not load on {} (compute capability {major}.{minor}): {}. \
                     They were compiled with CUDA {} for the architectures {}; the driver is one for CUDA \
                     {}, and should be at least as new as the toolkit. Update the driver, or build with an \
                     older toolkit or with MAITRE_CUDA_ARCHS={major}{minor}",
                    info.name,
                    describe(error),
                    env!("MAITRE_CUDA_TOOLKIT"),
                    env!("MAITRE_CUDA_ARCHITECTURES"),
                    dotted(info.driver_version as i32),
                ),
            )
        })?;
        Ok(Self(raw))
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: loaded in `load`; its kernels have run, as the stream was drained before.
        let _ = unsafe { module::unload(self.0) };
    }
}
