//! The kernels that were compiled in, and how they are launched.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{CString, c_int, c_void};
use std::ptr;

use cudarc::driver::result::{function, module};
use cudarc::driver::sys::{
    self, CUfunction, CUfunction_attribute_enum as Attribute, CUlaunchAttribute,
    CUlaunchAttributeID, CUlaunchAttributeValue, CUlaunchConfig, CUmodule, CUtensorMap,
    CUtensorMapDataType, CUtensorMapFloatOOBfill, CUtensorMapInterleave, CUtensorMapL2promotion,
    CUtensorMapSwizzle,
};

use super::context::{Stream, dotted};
use super::failure::{During, describe, failed, failed_by};
use crate::TensorError;
use crate::gpu::{GpuInfo, HOPPER, Launch, RawArg};

/// What a block may have without asking (CUDA programming guide, "Shared memory").
const SHARED_BYTES_UNASKED: u32 = 48 << 10;
/// The first driver that tells what a kernel's parameters are.
const DRIVER_WITH_PARAMETERS: u32 = 12_040;

/// The first driver that records launches that begin early (CUDA programming guide, "Programmatic Dependent Launch").
const DRIVER_WITH_EARLY_LAUNCHES: u32 = 12_030;

/// Launches that ask for less shared memory than this fit however a multiprocessor divides its memory between that
/// and its first-level cache.
const SHARED_BYTES_OF_NOTE: u32 = 8 << 10;
/// All of what can be shared memory, in percent.
const WHOLE_CARVEOUT: c_int = 100;

/// Lets a kernel be launched before the one before it has ended.
const EARLY: CUlaunchAttribute = CUlaunchAttribute {
    id: CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
    pad: [0; 4],
    value: CUlaunchAttributeValue {
        programmaticStreamSerializationAllowed: 1,
    },
};

/// Whether a kernel file is compiled for Hopper alone.
fn is_for_hopper(file: &str) -> bool {
    file.ends_with("_hopper.cu")
}

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
    /// One per file, in their order; none for a file that this GPU has no use for.
    modules: Vec<Option<Module>>,
    /// Those that were launched, by name.
    functions: HashMap<&'static str, Function>,
    shared_bytes_per_block: u32,
    driver_version: u32,
    /// Whether kernels can be launched before the one before them has ended.
    can_be_early: bool,
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
        let modules = FILES.iter().map(|(file, image, _)| {
            let is_of_use = !is_for_hopper(file) || info.capability == HOPPER;
            is_of_use
                .then(|| Module::load(file, image, info))
                .transpose()
        });
        let mut kernels = Self {
            modules: modules.collect::<Result<_, _>>()?,
            functions: HashMap::new(),
            shared_bytes_per_block: info.shared_bytes_per_block,
            driver_version: info.driver_version,
            can_be_early: false,
        };
        // Kernels that were compiled for less than 9.0 do not wait for the one before. Where those of Hopper are there,
        // all others were compiled for 9.0 too.
        kernels.can_be_early =
            kernels.has_hopper() && info.driver_version >= DRIVER_WITH_EARLY_LAUNCHES;
        Ok(kernels)
    }

    /// Whether those of Hopper were compiled in and loaded.
    pub(super) fn has_hopper(&self) -> bool {
        let mut files = FILES.iter().zip(&self.modules);
        files.any(|((file, ..), module)| is_for_hopper(file) && module.is_some())
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
            early,
            args,
        } = launch;
        let early = early && self.can_be_early;
        let function = self.prepare(kernel, shared_bytes, args)?;
        let matrices = args.iter().map(|arg| encode(kernel, arg));
        let matrices: Vec<Option<CUtensorMap>> = matrices.collect::<Result<_, _>>()?;
        // The driver wants the address of each argument, and only reads there.
        let places = args.iter().zip(&matrices);
        let mut addresses: Vec<*mut c_void> = places
            .map(|(arg, matrix)| matrix.as_ref().map_or_else(|| address(arg), place))
            .collect();
        let mut attributes = [EARLY];
        let config = CUlaunchConfig {
            gridDimX: x,
            gridDimY: y,
            gridDimZ: z,
            blockDimX: threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: shared_bytes,
            hStream: stream.raw(),
            attrs: attributes.as_mut_ptr(),
            numAttrs: u32::from(early),
        };
        // SAFETY: the function belongs to a loaded module; the arguments have the sizes of its parameters
        // (checked where the driver tells them) and live until the call returns, by when it has copied
        // them. The caller vouches for what the kernel does with them.
        unsafe {
            sys::cuLaunchKernelEx(
                &raw const config,
                function.raw,
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
    modules: &[Option<Module>],
    kernel: &'static str,
    args: usize,
    driver_version: u32,
) -> Result<Function, TensorError> {
    let file = FILES
        .iter()
        .position(|(_, _, kernels)| kernels.contains(&kernel));
    let loaded = file
        .and_then(|file| modules.get(file)?.as_ref())
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
            RawArg::Matrix(..) => size_of::<CUtensorMap>(),
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

/// Where the value of an argument lies; of a matrix that is what [`encode`] makes of it.
pub(super) fn address(arg: &RawArg) -> *mut c_void {
    match arg {
        RawArg::Address(value) => place(value),
        RawArg::Matrix(value, _) => place(value),
        RawArg::U32(value) => place(value),
        RawArg::I32(value) => place(value),
        RawArg::F32(value) => place(value),
    }
}

fn place<T>(value: &T) -> *mut c_void {
    ptr::from_ref(value).cast_mut().cast()
}

/// A matrix as the copy engine reads it: bf16, rows of a box turned as `cuda/hopper.cuh` says, zeros beyond it.
fn encode(kernel: &'static str, arg: &RawArg) -> Result<Option<CUtensorMap>, TensorError> {
    let &RawArg::Matrix(begin, matrix) = arg else {
        return Ok(None);
    };
    let steps = [1; 4];
    let mut encoded = CUtensorMap { opaque: [0; 16] };
    // SAFETY: the driver reads `rank` (2 or 4) numbers of each list, one less of the strides, and writes the map.
    unsafe {
        sys::cuTensorMapEncodeTiled(
            &raw mut encoded,
            CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
            matrix.rank,
            begin as *mut c_void,
            matrix.sizes.as_ptr(),
            matrix.strides.as_ptr(),
            matrix.boxes.as_ptr(),
            steps.as_ptr(),
            CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
            CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
            CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
            CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
    }
    .result()
    .map_err(|error| {
        failed_by(
            kernel,
            error,
            &format!(" (describing {matrix:?} at {begin:#x})"),
        )
    })?;
    Ok(Some(encoded))
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
