//! Whether the kernels' instructions are where they belong.
//!
//! A function compiled without an instruction set cannot take in an intrinsic that needs it. If a kernel uses a closure, and
//! the compiler happens not to inline the closure, each intrinsic in it becomes a function, and the kernel spends its time
//! calling: it was many times slower once, with all tests passing. So the compiled library is searched for such
//! functions.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use object::read::archive::ArchiveFile;
use object::{Object, ObjectSymbol};

/// The crate with the kernels.
const LIBRARY: &str = "libmaitre_tensor-";

/// What mangled names of intrinsics contain, followed by the length and name of a module.
const INTRINSICS: &str = "core_arch3x86";

/// Those modules, or how they begin.
const MODULES: [&str; 3] = ["avx", "fma", "f16c"];

/// Searches the newest build of a profile's folder, such as `target/release`.
pub(crate) fn check(profile: &Path) -> Result<()> {
    let library = newest(&profile.join("deps"))?;
    let bytes = fs::read(&library).with_context(|| format!("reading {}", library.display()))?;
    let mut found = intrinsics(&bytes).with_context(|| format!("in {}", library.display()))?;
    found.sort();
    found.dedup();
    ensure!(
        found.is_empty(),
        "these instructions are called as functions, which makes a kernel many times slower; take them out of closures \
         in crates/maitre-tensor, or mark what contains them #[inline(always)]:\n  {}",
        found.join("\n  ")
    );
    Ok(())
}

fn newest(folder: &Path) -> Result<PathBuf> {
    let mut libraries: Vec<(SystemTime, PathBuf)> = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(LIBRARY) && name.ends_with(".rlib") {
            libraries.push((fs::metadata(&path)?.modified()?, path));
        }
    }
    let (_, newest) = libraries
        .into_iter()
        .max()
        .with_context(|| format!("there is no {LIBRARY}*.rlib in {}", folder.display()))?;
    Ok(newest)
}

/// Names of the functions of a library that are single instructions.
fn intrinsics(library: &[u8]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for member in ArchiveFile::parse(library)?.members() {
        let data = member?.data(library)?;
        // The library's metadata is a member that is no object file.
        let Ok(file) = object::File::parse(data) else {
            continue;
        };
        let functions = file.symbols().filter(ObjectSymbol::is_definition);
        let names = functions.filter_map(|symbol| symbol.name().ok().map(str::to_owned));
        found.extend(names.filter(|name| is_intrinsic(name)));
    }
    Ok(found)
}

fn is_intrinsic(name: &str) -> bool {
    let Some((_, rest)) = name.split_once(INTRINSICS) else {
        return false;
    };
    let module = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
    MODULES.iter().any(|name| module.starts_with(name)) && module.contains("_mm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_told_by_their_names() {
        for name in [
            "_ZN4core9core_arch3x864avx216_mm256_and_si25617h32a24b1b0374c5deE",
            "_RNvNtNtNtCs1_4core9core_arch3x863avx18__mm256_loadu_si256.llvm.155",
            "_ZN4core9core_arch3x868avx512bw17_mm512_srli_epi1617hE",
            "_RNvNtNtNtCs1_4core9core_arch3x864f16c15__mm256_cvtph_ps",
        ] {
            assert!(is_intrinsic(name), "{name}");
        }
        for name in [
            "_ZN13maitre_tensor3x864avx28kernels17hE",
            "_ZN4core9core_arch3x865xsave7_xgetbv17hE",
            "_ZN59_$LT$core..core_arch..x86..__m256i$u20$as$u20$core..fmt..Debug$GT$3fmt17hE",
        ] {
            assert!(!is_intrinsic(name), "{name}");
        }
    }
}
