//! The kernels, as data: a `.wgsl` file each, with what it shares, its constants and its buffers.
//!
//! A new kernel is a file in this folder, a line in [`register`]'s list and a wrapper in one of the operation files.
//! Binding 0 of group 0 is always the uniform `params`; the storage buffers follow in group 1 in the order given here.
//! Every variable of a function says what it starts at: `var x = 0.0`, not `var x: f32`.

/// How a kernel uses a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Access {
    /// Only reads it.
    Read,
    /// Writes it.
    Write,
}

use Access::{Read, Write};

/// A kernel's source and interface.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// File name without its ending.
    pub(crate) name: &'static str,
    /// Shared files first, then its own.
    pub(crate) sources: &'static [&'static str],
    /// Names of its override constants, in the order in which a dispatch gives their values.
    pub(crate) overrides: &'static [&'static str],
    /// Its storage buffers, the result last.
    pub(crate) bindings: &'static [Access],
}

impl Kernel {
    /// The complete shader.
    pub(crate) fn source(&self) -> String {
        self.sources.concat()
    }
}

const ATTENDING: &str = include_str!("shared/attention.wgsl");
const GRID: &str = include_str!("shared/grid.wgsl");
const WORKGROUP_REDUCE: &str = include_str!("shared/workgroup_reduce.wgsl");
const ACTIVATION: &str = include_str!("shared/activation.wgsl");
const QUANTIZED: &str = include_str!("shared/quantized.wgsl");

macro_rules! register {
    ($($id:ident $file:literal [$($shared:ident),*] [$($constant:literal),*] [$($access:ident),*];)*) => {
        $(pub(crate) static $id: Kernel = Kernel {
            name: $file,
            sources: &[$($shared,)* include_str!(concat!($file, ".wgsl"))],
            overrides: &[$($constant),*],
            bindings: &[$($access),*],
        };)*

        /// All kernels, for the tests that read every file.
        #[cfg(test)]
        pub(crate) static ALL: &[&Kernel] = &[$(&$id),*];
    };
}

register! {
    FILL                "fill"                [GRID]                   []         [Write];
    COPY                "copy"                [GRID]                   []         [Read, Write];
    INDEX_SELECT        "index_select"        [GRID]                   []         [Read, Read, Write];
    BINARY              "binary"              [GRID]                   []         [Read, Read, Write];
    UNARY               "unary"               [GRID, ACTIVATION]       []         [Read, Write];
    AFFINE              "affine"              [GRID]                   []         [Read, Write];
    REDUCE_AXIS         "reduce_axis"         [GRID]                   []         [Read, Write];
    REDUCE_ROW          "reduce_row"          [GRID, WORKGROUP_REDUCE] []         [Read, Write];
    ARGMAX              "argmax"              [GRID]                   []         [Read, Write];
    SOFTMAX             "softmax"             [GRID, WORKGROUP_REDUCE] []         [Read, Write];
    LAYER_NORM          "layer_norm"          [GRID, WORKGROUP_REDUCE] []         [Read, Read, Read, Write];
    RMS_NORM            "rms_norm"            [GRID, WORKGROUP_REDUCE] []         [Read, Read, Write];
    GROUP_NORM          "group_norm"          [GRID, WORKGROUP_REDUCE] []         [Read, Read, Read, Write];
    MATMUL              "matmul"              [ACTIVATION]             []         [Read, Read, Read, Write];
    MATVEC              "matvec"              [ACTIVATION]             []         [Read, Read, Read, Write];
    QUANTIZED_MATVEC    "quantized_matvec"    [ACTIVATION, QUANTIZED]  ["SCHEME"] [Read, Read, Read, Read, Read, Write];
    QUANTIZED_MATMUL    "quantized_matmul"    [ACTIVATION, QUANTIZED]  ["SCHEME"] [Read, Read, Read, Read, Read, Write];
    QUANTIZED_EMBEDDING "quantized_embedding" [GRID, QUANTIZED]        ["SCHEME"] [Read, Read, Read, Read, Write];
    CONV2D              "conv2d"              [ACTIVATION]             ["PIXELS"] [Read, Read, Read, Write];
    DEPTHWISE_CONV2D    "depthwise_conv2d"    [GRID, ACTIVATION]       []         [Read, Read, Read, Write];
    CONV_TRANSPOSE2D    "conv_transpose2d"    [GRID]                   []         [Read, Read, Read, Write];
    POOL2D              "pool2d"              [GRID]                   []         [Read, Write];
    RESIZE              "resize"              [GRID]                   []         [Read, Write];
    ATTENTION           "attention"           [GRID, ATTENDING]        ["KEY_HALVES", "VALUE_HALVES"] [Read, Read, Read, Read, Write];
    HALF_PAIRS          "half_pairs"          [GRID]                   []         [Read, Write];
    DEFORMABLE_ATTENTION "deformable_attention" [GRID]                 []         [Read, Read, Read, Write];
    TOP_K               "top_k"               [GRID]                   []         [Read, Write];
    ATTENTION_TILED     "attention_tiled"     [GRID, ATTENDING]        ["KEY_HALVES", "VALUE_HALVES", "COLUMNS"] [Read, Read, Read, Read, Write];
    ROPE                "rope"                [GRID]                   []         [Read, Read, Read, Write];
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use wgpu::naga;

    use super::*;

    fn validated(kernel: &Kernel) -> (naga::Module, naga::valid::ModuleInfo) {
        let source = kernel.source();
        let module = naga::front::wgsl::parse_str(&source)
            .unwrap_or_else(|error| panic!("{}: {}", kernel.name, error.emit_to_string(&source)));
        // Only what WebGPU has without asking.
        let capabilities = naga::valid::Capabilities::SHADER_FLOAT16_IN_FLOAT32;
        let info = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities)
            .validate(&module)
            .unwrap_or_else(|error| panic!("{}: {}", kernel.name, error.emit_to_string(&source)));
        (module, info)
    }

    #[test]
    fn every_kernel_is_valid_and_declares_what_is_registered() {
        for kernel in ALL {
            let (module, _) = validated(kernel);
            let overrides: BTreeSet<&str> = module.overrides.iter().filter_map(|(_, o)| o.name.as_deref()).collect();
            assert_eq!(overrides, kernel.overrides.iter().copied().collect(), "constants of {}", kernel.name);
            let mut bindings: Vec<(u32, Access)> = module
                .global_variables
                .iter()
                .filter_map(|(_, variable)| {
                    let binding = variable.binding.filter(|binding| binding.group == 1)?;
                    let naga::AddressSpace::Storage { access } = variable.space else { return None };
                    let written = access.contains(naga::StorageAccess::STORE);
                    Some((binding.binding, if written { Write } else { Read }))
                })
                .collect();
            bindings.sort_by_key(|(index, _)| *index);
            let registered: Vec<(u32, Access)> = (0..).zip(kernel.bindings.iter().copied()).collect();
            assert_eq!(bindings, registered, "buffers of {}", kernel.name);
            assert!(bindings.len() <= 8, "{} needs more buffers than WebGPU promises", kernel.name);
            assert_eq!(module.entry_points.len(), 1, "entry points of {}", kernel.name);
            assert_eq!(module.entry_points[0].name, "main", "entry point of {}", kernel.name);
        }
    }

    /// A variable that a loop declares starts anew each time round. Chromium 156 forgets that on Vulkan where it starts at
    /// the zero that WGSL promises unasked, so every variable says what it starts at.
    #[test]
    fn every_variable_says_what_it_starts_at() {
        for kernel in ALL {
            let source = kernel.source();
            let silent = source.lines().find(|line| line.trim_start().starts_with("var ") && !line.contains(" = "));
            assert_eq!(silent, None, "{}", kernel.name);
        }
    }

    #[test]
    fn workgroup_memory_and_parameters_stay_within_the_promised_limits() {
        for kernel in ALL {
            let (module, _) = validated(kernel);
            let mut layouter = naga::proc::Layouter::default();
            layouter.update(module.to_ctx()).expect("types of a valid module have layouts");
            for (_, variable) in module.global_variables.iter() {
                if variable.space == naga::AddressSpace::Uniform {
                    let size = layouter[variable.ty].size;
                    assert!(size <= 256, "{} has {size} bytes of parameters", kernel.name);
                }
            }
            let shared = module.global_variables.iter().filter(|(_, v)| v.space == naga::AddressSpace::WorkGroup);
            let bytes: u32 = shared.map(|(_, variable)| layouter[variable.ty].size).sum();
            assert!(bytes <= 16 << 10, "{} has {bytes} bytes of workgroup memory", kernel.name);
        }
    }

    #[test]
    fn every_file_is_registered() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tensor/gpu/kernels");
        let names: BTreeSet<&str> = ALL.iter().map(|kernel| kernel.name).collect();
        for entry in std::fs::read_dir(folder).expect("the kernels' folder exists") {
            let path = entry.expect("a readable folder").path();
            if path.extension().is_some_and(|ending| ending == "wgsl") {
                let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
                assert!(names.contains(name), "{name}.wgsl is not registered");
            }
        }
    }
}
