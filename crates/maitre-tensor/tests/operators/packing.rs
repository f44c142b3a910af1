//! Packing: what a matrix is made of, how large it is afterwards, and what is refused by name.

use maitre_tensor::{
    Backend, Buffer, DType, InputFormat, LinearInput, TensorError, WeightFormat, WeightView,
};

use crate::numbers::{FORMATS, backends, bits, buffer, encoded, linear, noise, unpacked, weight};

#[test]
fn a_fused_weight_gives_what_its_parts_give() {
    let (rows, cols) = (5, 33);
    let x = noise(1, rows * cols);
    let bytes: Vec<Vec<u8>> = [(2, 7), (3, 40)]
        .map(|(seed, out)| {
            noise(seed, out * cols)
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect()
        })
        .to_vec();
    let views: Vec<WeightView<'_>> = bytes
        .iter()
        .map(|bytes| WeightView {
            dtype: DType::F32,
            rows: bytes.len() / 4 / cols,
            cols,
            bytes,
        })
        .collect();
    for backend in backends(2) {
        for format in FORMATS {
            let run = |parts: &[WeightView<'_>]| {
                let packed = backend.pack(parts, format).unwrap();
                let out = linear(&backend, &x, &packed, None);
                out.chunks_exact(packed.rows())
                    .map(bits)
                    .collect::<Vec<_>>()
            };
            let (upper, lower) = (run(&views[..1]), run(&views[1..]));
            let pairs = upper.into_iter().zip(lower);
            let separate: Vec<_> = pairs.map(|(a, b)| [a, b].concat()).collect();
            assert_eq!(run(&views), separate);
        }
    }
}

#[test]
fn packing_takes_any_file_format_at_any_alignment() {
    let values = [1.0_f32, -2.0, 0.5, 3.0, 65504.0, -0.25];
    let f32s: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let f16s: Vec<u8> = values
        .iter()
        .flat_map(|v| half::f16::from_f32(*v).to_le_bytes())
        .collect();
    let bf16s: Vec<u8> = values
        .iter()
        .flat_map(|v| half::bf16::from_f32(*v).to_le_bytes())
        .collect();
    for (dtype, bytes) in [(DType::F32, f32s), (DType::F16, f16s), (DType::Bf16, bf16s)] {
        let unaligned = [&[0xff], &bytes[..]].concat();
        let view = WeightView {
            dtype,
            rows: 2,
            cols: 3,
            bytes: &unaligned[1..],
        };
        for backend in backends(2) {
            for format in [WeightFormat::F32, WeightFormat::F16, WeightFormat::Bf16] {
                let weight = backend.pack(&[view], format).unwrap();
                let mut expected = values;
                if [dtype.into(), format].contains(&WeightFormat::Bf16) {
                    expected[4] = 65536.0;
                }
                // 65536 is beyond f16.
                if format == WeightFormat::F16 && dtype == DType::Bf16 {
                    expected[4] = f32::INFINITY;
                }
                assert_eq!(unpacked(&weight), expected, "{dtype} to {format}");
            }
        }
    }
}

#[test]
fn packed_sizes_are_as_announced() {
    for format in FORMATS {
        let (rows, cols) = (64, 1024);
        let (weight, _) = weight(1, rows, cols, format);
        let announced = format.bits_per_weight() / 8.0 * (rows * cols) as f64;
        let extra = weight.size_in_bytes() as f64 - announced;
        // Int8 keeps a scale per output feature beside its bytes.
        assert!(
            (0.0..=4.0 * rows as f64).contains(&extra),
            "{format}: {extra}"
        );
    }
}

fn refusal(result: Result<maitre_tensor::PackedWeight, TensorError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let backend = Backend::cpu(1).unwrap();
    let bytes: Vec<u8> = [0.0_f32; 6].iter().flat_map(|v| v.to_le_bytes()).collect();
    let view = |rows, cols, bytes| WeightView {
        dtype: DType::F32,
        rows,
        cols,
        bytes,
    };
    let table: [(&[WeightView<'_>], &str); 5] = [
        (&[], "input sizes []: there are none"),
        (
            &[view(3, 2, &bytes), view(2, 3, &bytes)],
            "input sizes [2, 3]: all must have the same input size",
        ),
        (&[view(3, 0, &[])], "the input size must not be 0"),
        (
            &[view(4, 2, &bytes)],
            "a f32 weight of 4 x 2 takes 32 bytes, but 24 bytes were given",
        ),
        (&[view(usize::MAX, 2, &bytes)], "but 24 bytes were given"),
    ];
    for (parts, expected) in table {
        let message = refusal(backend.pack(parts, WeightFormat::Bf16));
        assert!(message.contains(expected), "{message}");
    }
    let wide = vec![0; 131_073 * 4];
    let message = refusal(backend.pack(&[view(1, 131_073, &wide)], WeightFormat::INT8));
    assert_eq!(
        message,
        "int8 weights with one activation scale per token take at most 131072 input features, but \
         there are 131073; use int8-g128"
    );
    for group in [0, 5] {
        let form = InputFormat::Int8 { group: Some(group) };
        let message = LinearInput::new(form, 30, 1).unwrap_err().to_string();
        assert!(
            message.starts_with(&format!("groups of {group} input")),
            "{message}"
        );
    }
    let format = WeightFormat::Int4 { group: 48 };
    let message = refusal(backend.pack(&[view(3, 2, &bytes)], format));
    assert_eq!(
        message,
        "groups of 48 input features are not supported; use 32, 64 or 128"
    );
}

#[test]
fn a_weight_that_cannot_be_quantized_is_named() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut values = noise(1, 40 * 6);
        values[37 * 6 + 4] = value;
        values[38 * 6] = value;
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let part = |rows: std::ops::Range<usize>| WeightView {
            dtype: DType::F32,
            rows: rows.len(),
            cols: 6,
            bytes: &bytes[rows.start * 24..rows.end * 24],
        };
        let parts = [part(0..30), part(30..40)];
        let backend = Backend::cpu(3).unwrap();
        for format in FORMATS {
            let result = backend.pack(&parts, format);
            if !format.is_quantized() {
                assert!(result.is_ok());
                continue;
            }
            let Err(TensorError::NonFiniteWeight { part, row, col, .. }) = result else {
                panic!("{format} took {value}");
            };
            assert_eq!((part, row, col), (1, 7, 4));
        }
    }
}

#[test]
fn inputs_in_the_wrong_form_are_refused() {
    let backend = Backend::cpu(1).unwrap();
    let (w, _) = weight(1, 5, 4, WeightFormat::Bf16);
    let out = &mut buffer(&[7.0; 10]);
    let mut refused = |x: &LinearInput, bias: Option<&Buffer>, rows, expected: &str| {
        let error = backend.linear(x, &w, bias, out, rows).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(out.f32s().unwrap(), [7.0; 10]);
    };
    let input =
        |cols, format: WeightFormat| encoded(&backend, &noise(1, 3 * cols), cols, format.input());
    refused(
        &input(4, WeightFormat::Bf16),
        None,
        0..4,
        "linear: `x` must be at least [4, 4] bf16 activations, but is [3, 4] bf16 activations",
    );
    refused(
        &input(4, WeightFormat::INT8),
        None,
        0..2,
        "linear: `x` must be at least [2, 4] bf16 activations, but is [3, 4] int8 activations",
    );
    refused(
        &input(5, WeightFormat::Bf16),
        None,
        0..2,
        "linear: `x` must be at least [2, 4] bf16 activations, but is [3, 5] bf16 activations",
    );
    refused(
        &input(4, WeightFormat::Bf16),
        None,
        0..3,
        "linear: `out` must be at least [3, 5] f32 elements, but is 10 f32 elements",
    );
    refused(
        &input(4, WeightFormat::Bf16),
        Some(&buffer(&[0.0; 4])),
        0..2,
        "linear: `bias` must be 5 f32 elements, but is 4 f32 elements",
    );
}
