//! The same bits everywhere: the outputs of a fixed list of cases have these digests, one with fused multiply-add on
//! every CPU, whatever its vectors, and one without.
//!
//! Neither values nor digests come from a dependency, so that no update of one can change them.

use depthwise::{
    Activation, BatchNorm, Conv2d, DepthwiseConv2d, Element, Isa, Layout, Padding, Parallelism, PointwiseConv2d, Run,
    SeparableConv2d, Shape, Strides, TensorView, TensorViewMut, Workspace, bf16, f16, narrow, widen,
};

/// The case, its digest with fused multiply-add, and without.
const DIGESTS: &[(&str, u64, u64)] = &[
    ("3x3", 0x1b48_bec3_f29c_a4e9, 0xb581_1b61_675e_c182),
    ("3x3, stride 2", 0xccd9_e8f3_f85a_a873, 0x3fe7_e9fc_489b_1486),
    ("3x3, no padding", 0x7394_b997_6c29_a4fb, 0xfe6e_b792_ecb5_b323),
    ("3x3, 33 channels", 0xb94b_ed62_77db_e630, 0x3f9e_6729_8818_5774),
    ("3x3, one pixel", 0xc45c_2109_73c1_1a35, 0x863e_550f_2e76_5f73),
    ("5x5", 0x6f0f_9ef7_a2cd_4c63, 0xf20b_78d0_053a_b48c),
    ("5x5, stride 2", 0x3028_39e4_1cb7_e628, 0xbeaa_e511_c594_30f8),
    ("7x7", 0x2cbd_d0d8_9f55_36b3, 0x1ae3_b13a_bc06_00f5),
    ("7x7, stride 2", 0x7438_6aea_f56f_3a81, 0xe000_4220_f60c_e155),
    ("4x2, stride 3x1", 0x0247_6333_1276_3908, 0xc51f_56f5_a468_6de0),
    ("dilation 2x3", 0xd637_65ff_fa71_b7e4, 0x0537_030f_a917_f7ac),
    ("stride 2, dilation 3", 0x19d1_d707_a0d5_177b, 0x9d05_fdac_3036_6459),
    ("multiplier 3", 0x1ae0_536f_c9f6_4c38, 0xcf39_a9c4_d263_206b),
    ("batch norm, residual", 0xd7e4_2c7e_e754_1050, 0x966d_3051_e442_363d),
    ("special values", 0xd5f8_2ebc_2494_0ac4, 0x72e7_03b9_bbce_9fbf),
    ("denormal sums", 0x19fc_a4e3_34ec_092c, 0x4762_d3d3_6d1a_881f),
    ("pointwise", 0x64d9_6296_572f_d6eb, 0x7eaf_9435_fbfb_517f),
    ("pointwise, depth 1024", 0xc8a8_dcb0_e0b8_aebe, 0x6a81_1fe9_1679_3b21),
    ("pointwise, batch norm, residual", 0x08b2_32cb_1c80_ae45, 0xdce9_17a8_2fee_8497),
    ("pointwise, special values", 0x7772_736e_2109_7af1, 0x29ca_32fe_015e_f95a),
    ("pointwise, denormal sums", 0xa5b3_8fcf_651c_f351, 0xe6e0_34cb_e2bc_8720),
    ("separable", 0xe30f_963d_ff72_5841, 0x0367_c980_a89d_9fa0),
    ("separable, stride 2", 0xdc57_bcc5_d96e_15e4, 0x95ee_78b3_aa7f_2681),
    ("separable, depth 512", 0x6410_f9cf_29b6_6a90, 0xa685_4f76_ae4a_0a85),
    ("standard", 0x1451_e5e3_b1bf_d1a7, 0xf554_3ba3_72bc_88ab),
    ("standard, stride 2", 0xae25_3852_2f24_9855, 0x6795_6aea_ac17_684e),
    ("ReLU", 0x146d_de4e_ea8b_f842, 0x5344_8806_ae51_8647),
    ("ReLU6", 0x5b59_ad19_dd96_60ca, 0x1097_594b_3bcb_26f4),
    ("clamp", 0x7071_add2_2dbe_ea39, 0xa298_2080_8dfd_0bb6),
    ("leaky ReLU", 0xda9d_a1e2_c6a6_2ccc, 0xc2e0_4d41_9607_0f1c),
    ("hard-swish", 0x3df9_39f2_e18a_a2da, 0x433f_5b78_9334_d90e),
    ("hard-sigmoid", 0xb8c2_22b9_f2da_43d6, 0x8f31_b4fb_2800_a454),
    ("sigmoid", 0xaee1_208d_c0c2_0738, 0x48c0_ef60_b5ea_5b47),
    ("SiLU", 0x334d_f6c0_6645_9ffd, 0xfb3d_271c_b2cb_de80),
    ("GELU", 0xae61_9256_fb9f_0b58, 0xe524_82a7_07a0_5f49),
    ("tanh", 0x3274_44b8_8958_1c35, 0x1b53_83c9_0078_627f),
    ("mish", 0x9f45_2aef_71a3_bfb7, 0x875a_a644_48bb_766b),
];

/// The same of tensors of `f16` and of `bf16`, each with fused multiply-add, and without.
const NARROW: &[(&str, [u64; 2], [u64; 2])] = &[
    ("3x3", [0x31f0_5e96_6590_4952, 0x31f0_5e96_6590_4952], [0xd2a4_ef09_3ad3_418d, 0xd2a4_ef09_3ad3_418d]),
    ("3x3, stride 2", [0x0e41_05b4_1c56_0f09, 0x0e41_05b4_1c56_0f09], [0x102c_f101_f2f5_4f35, 0x102c_f101_f2f5_4f35]),
    ("3x3, no padding", [0xf8c9_68e2_d709_6dd9, 0x05dc_b1e8_0dca_9379], [0x6ec0_e1e6_aa24_e374, 0x6ec0_e1e6_aa24_e374]),
    (
        "3x3, 33 channels",
        [0x6c3d_100d_ca84_fd3d, 0x6c3d_100d_ca84_fd3d],
        [0x089a_a6db_cd5d_f8ed, 0xaf48_7fd9_6af1_f278],
    ),
    ("3x3, one pixel", [0x64d7_d77a_47a7_9a35, 0x64d7_d77a_47a7_9a35], [0xdd7f_78e9_d67b_4bd1, 0xdd7f_78e9_d67b_4bd1]),
    ("5x5", [0xae1f_3cf5_54a5_bdf3, 0xae1f_3cf5_54a5_bdf3], [0xace9_4720_9f24_6ec7, 0xace9_4720_9f24_6ec7]),
    ("5x5, stride 2", [0x3635_42ab_866d_d33b, 0x3635_42ab_866d_d33b], [0x539a_aeb6_7829_e264, 0x539a_aeb6_7829_e264]),
    ("7x7", [0x69c8_25dd_f3b0_52f1, 0x4b79_3a22_ac56_4451], [0x7965_edd3_d1d4_7602, 0x7965_edd3_d1d4_7602]),
    ("7x7, stride 2", [0x7f4c_9ffe_0aab_7f80, 0x7851_0578_4bf5_cf60], [0x3ee8_e00f_4860_e39b, 0x3ee8_e00f_4860_e39b]),
    ("4x2, stride 3x1", [0x149c_16fd_5c64_f364, 0x149c_16fd_5c64_f364], [0x0587_8af1_f524_1d81, 0x6f6f_2bd0_16c9_b184]),
    ("dilation 2x3", [0x2515_5db4_b753_19ae, 0xedb2_4f4c_3a5f_5d63], [0xca85_5900_d214_74e3, 0xca85_5900_d214_74e3]),
    (
        "stride 2, dilation 3",
        [0x921e_964f_7110_100d, 0xd7c0_dde5_58f1_58ed],
        [0xf59a_a18b_9242_ab8d, 0xf59a_a18b_9242_ab8d],
    ),
    ("multiplier 3", [0x4ea3_ba9b_488f_cdbc, 0x4363_fe24_17d7_667c], [0x5389_d69d_0ffd_e401, 0xe913_b5df_ae71_d8d8]),
    (
        "batch norm, residual",
        [0xe8aa_74df_19c4_ad02, 0x5522_9c57_7dd7_61a2],
        [0x0fcb_3c71_bc0c_54c1, 0x0fcb_3c71_bc0c_54c1],
    ),
    ("special values", [0x89e2_a29e_5203_fd06, 0xc093_e980_1488_24c6], [0x4a78_81b7_c790_149d, 0x4a78_81b7_c790_149d]),
    ("denormal sums", [0x5a5a_df7c_2d57_b6d5, 0x5a5a_df7c_2d57_b6d5], [0x72db_9597_f870_a72f, 0x72db_9597_f870_a72f]),
    ("pointwise", [0xd265_45f1_0853_fab5, 0xd265_45f1_0853_fab5], [0x58ae_0a5f_d716_85e3, 0x58ae_0a5f_d716_85e3]),
    (
        "pointwise, depth 1024",
        [0x5efe_cfc7_603b_3985, 0x5efe_cfc7_603b_3985],
        [0xad4d_3edd_d237_6353, 0x40f0_f543_5b5e_a19a],
    ),
    (
        "pointwise, batch norm, residual",
        [0x3f33_a850_8e08_5fb4, 0x8db8_5b12_f691_30d4],
        [0x83ba_0a4c_58ec_8926, 0x32b0_4ef8_b802_3edb],
    ),
    (
        "pointwise, special values",
        [0xf71f_113d_8b13_e78d, 0x0bbf_3099_9407_a0ed],
        [0x6625_3291_df82_6d7c, 0x6625_3291_df82_6d7c],
    ),
    (
        "pointwise, denormal sums",
        [0xbc3e_6344_74eb_5095, 0xbc3e_6344_74eb_5095],
        [0x8197_393d_1a04_17dd, 0x1ecb_96b0_e0aa_c99c],
    ),
    ("separable", [0xb82b_0190_2953_2cf6, 0x0012_f424_6474_67f1], [0x797d_aeed_f83b_7f36, 0x797d_aeed_f83b_7f36]),
    (
        "separable, stride 2",
        [0xfd6f_e73f_ecaf_ecbc, 0xf57e_e1a6_ada8_dee7],
        [0x4a8f_e3f4_48fe_4e79, 0x4a8f_e3f4_48fe_4e79],
    ),
    (
        "separable, depth 512",
        [0x7008_f1fc_870f_1160, 0x7008_f1fc_870f_1160],
        [0x8c0b_6778_e662_fb60, 0x8c0b_6778_e662_fb60],
    ),
    ("standard", [0x4a17_6684_0db3_1816, 0x9b27_8182_c7c1_d836], [0x3129_66af_24fd_0489, 0x3129_66af_24fd_0489]),
    (
        "standard, stride 2",
        [0x70fe_005b_3487_ff52, 0xb9a0_68c0_d834_6a94],
        [0x8685_18e7_5039_1219, 0x0876_335b_5c2a_fe52],
    ),
    ("ReLU", [0x21b3_c803_f24a_e112, 0x6584_3d4b_f4d9_668e], [0x9ac4_2a26_d4c7_6b5a, 0xdef3_4e92_61a9_54b3]),
    ("ReLU6", [0xf3d6_a718_0eea_d953, 0x9b01_7d28_9442_c673], [0xa35f_ba00_99ef_3964, 0xa35f_ba00_99ef_3964]),
    ("clamp", [0xe1d7_4d30_560d_29cd, 0x854f_15dd_b944_f62d], [0x769c_823e_80af_1e69, 0x769c_823e_80af_1e69]),
    ("leaky ReLU", [0x736f_4ac5_6d45_16fa, 0xba54_946f_0603_ba33], [0xf3c1_62ee_640e_d649, 0x786b_ef54_9210_a324]),
    ("hard-swish", [0x298c_4f70_6659_ea1c, 0x7a8a_e840_53a8_b5b1], [0x0807_be3f_7729_5a2c, 0x0807_be3f_7729_5a2c]),
    ("hard-sigmoid", [0x6e89_084b_6d38_4468, 0x6e89_084b_6d38_4468], [0xaf78_8a36_6dfe_8edc, 0xaf78_8a36_6dfe_8edc]),
    ("sigmoid", [0x5214_51c9_b206_5110, 0x5214_51c9_b206_5110], [0x9abe_2730_6b55_4914, 0x9abe_2730_6b55_4914]),
    ("SiLU", [0xf027_0030_cfcb_70ec, 0x34eb_2d57_eb3e_0794], [0xd705_e3cb_20db_0b11, 0xd705_e3cb_20db_0b11]),
    ("GELU", [0x6aa2_6a5a_81aa_2c90, 0x88b6_87d9_2eb2_8c49], [0x88ab_bd22_86bd_b2d3, 0xc3b0_c18a_5d9d_7dc6]),
    ("tanh", [0x3c6b_ee84_ede4_78f9, 0xc628_14c1_4b38_6899], [0xe670_dd80_96e4_d62e, 0xe670_dd80_96e4_d62e]),
    ("mish", [0x7aca_816d_6b2c_6bc5, 0x39db_9ae9_54f9_2522], [0x777a_9ad3_a439_33e3, 0x4a20_f736_63a0_ebae]),
];

enum Operation {
    Depthwise,
    Pointwise,
    Separable,
    Standard,
}
use Operation::{Depthwise, Pointwise, Separable, Standard};

struct Case {
    name: &'static str,
    operation: Operation,
    input: Shape,
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    padding: Padding,
    /// Output channels per input channel of a depthwise stage.
    multiplier: usize,
    /// Output channels of a pointwise stage and of a standard convolution.
    outputs: usize,
    batch_norm: bool,
    residual: bool,
    /// After each stage.
    activation: Activation,
    values: Values,
}

#[derive(Clone, Copy)]
enum Values {
    /// Within ±1.
    Plain,
    /// Within ±4, so that sums reach the ends of all activations.
    Wide,
    /// Plain, but one in forty is NaN, infinite, a zero or denormal.
    Special,
    /// Such that products and sums lie around the least normal number.
    Tiny,
}

fn cases() -> Vec<Case> {
    let base = || Case {
        name: "",
        operation: Depthwise,
        input: Shape::new(1, 19, 9, 21),
        kernel: [3, 3],
        stride: [1, 1],
        dilation: [1, 1],
        padding: Padding::symmetric(1, 1),
        multiplier: 1,
        outputs: 23,
        batch_norm: false,
        residual: false,
        activation: Activation::None,
        values: Values::Plain,
    };
    let case = |name, case| Case { name, ..case };
    let five = || Case { kernel: [5, 5], padding: Padding::symmetric(2, 2), ..base() };
    let seven = || Case { kernel: [7, 7], padding: Padding::symmetric(3, 3), ..base() };
    let pointwise = || Case { operation: Pointwise, ..base() };
    let separable = || Case { operation: Separable, ..base() };
    let standard = || Case { operation: Standard, ..base() };
    let activation = |name, activation| Case { name, operation: Separable, activation, values: Values::Wide, ..base() };
    vec![
        case("3x3", base()),
        case("3x3, stride 2", Case { stride: [2, 2], ..base() }),
        case("3x3, no padding", Case { input: Shape::new(3, 7, 8, 34), padding: Padding::valid(), ..base() }),
        case("3x3, 33 channels", Case { input: Shape::new(1, 33, 5, 5), ..base() }),
        case("3x3, one pixel", Case { input: Shape::new(2, 65, 1, 1), ..base() }),
        case("5x5", five()),
        case("5x5, stride 2", Case { stride: [2, 2], padding: Padding::same_upper(), ..five() }),
        case("7x7", seven()),
        case("7x7, stride 2", Case { stride: [2, 2], padding: Padding::same_lower(), ..seven() }),
        case("4x2, stride 3x1", {
            Case { kernel: [4, 2], stride: [3, 1], padding: Padding::explicit(0, 3, 2, 1), ..base() }
        }),
        case("dilation 2x3", Case { dilation: [2, 3], padding: Padding::symmetric(2, 3), ..base() }),
        case("stride 2, dilation 3", {
            Case { stride: [2, 2], dilation: [3, 3], padding: Padding::symmetric(3, 3), ..base() }
        }),
        case("multiplier 3", Case { multiplier: 3, ..base() }),
        case("batch norm, residual", Case { batch_norm: true, residual: true, ..base() }),
        case("special values", Case { residual: true, values: Values::Special, ..base() }),
        case("denormal sums", Case { values: Values::Tiny, ..base() }),
        case("pointwise", pointwise()),
        case("pointwise, depth 1024", Case { input: Shape::new(1, 1024, 3, 7), ..pointwise() }),
        case("pointwise, batch norm, residual", Case { batch_norm: true, residual: true, ..pointwise() }),
        case("pointwise, special values", Case { residual: true, values: Values::Special, ..pointwise() }),
        case("pointwise, denormal sums", Case { values: Values::Tiny, ..pointwise() }),
        case("separable", separable()),
        case("separable, stride 2", Case { stride: [2, 2], multiplier: 2, batch_norm: true, ..separable() }),
        case("separable, depth 512", Case { input: Shape::new(1, 512, 4, 5), residual: true, ..separable() }),
        case("standard", standard()),
        case("standard, stride 2", Case { kernel: [5, 3], stride: [2, 2], dilation: [1, 2], ..standard() }),
        activation("ReLU", Activation::Relu),
        activation("ReLU6", Activation::Relu6),
        activation("clamp", Activation::Clamp { min: -0.5, max: 0.25 }),
        activation("leaky ReLU", Activation::LeakyRelu { slope: 0.1 }),
        activation("hard-swish", Activation::HardSwish),
        activation("hard-sigmoid", Activation::HardSigmoid),
        activation("sigmoid", Activation::Sigmoid),
        activation("SiLU", Activation::Silu),
        activation("GELU", Activation::Gelu),
        activation("tanh", Activation::Tanh),
        activation("mish", Activation::Mish),
    ]
}

#[test]
fn digests() {
    let mut wrong = String::new();
    let cases = cases();
    let names = |case: &Case| case.name;
    assert!(cases.iter().map(names).eq(DIGESTS.iter().map(|digest| digest.0)), "a digest for each case, in order");
    for (case, &(_, fused, separate)) in cases.iter().zip(DIGESTS) {
        for isa in depthwise_testkit::isas() {
            for layout in [Layout::Nchw, Layout::Nhwc] {
                let want = if isa.is_fused() { fused } else { separate };
                let got = digest(&run(case, isa, layout));
                if got != want {
                    wrong += &format!("{}, {isa}, {layout}: want {want:#018x}, got {got:#018x}\n", case.name);
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "these outputs do not have the bits that they have on all other machines:\n{wrong}\
         If suites that compare with the oracle fail too, a kernel errs. If they pass, the oracle was changed along \
         with it, and every user's results: undo it, or say so in CHANGELOG.md and put the new digests here."
    );
    println!("{} cases on {:?}, both layouts", cases.len(), depthwise_testkit::isas());
}

#[test]
fn digests_of_narrow_tensors() {
    let (cases, mut wrong) = (cases(), String::new());
    let names = |case: &Case| case.name;
    assert!(cases.iter().map(names).eq(NARROW.iter().map(|digest| digest.0)), "digests for each case, in order");
    for (case, &(_, of_f16, of_bf16)) in cases.iter().zip(NARROW) {
        for isa in depthwise_testkit::isas() {
            for layout in [Layout::Nchw, Layout::Nhwc] {
                let outputs = [run_of::<f16>(case, isa, layout), run_of::<bf16>(case, isa, layout)];
                for (element, (want, got)) in ["f16", "bf16"].iter().zip([of_f16, of_bf16].into_iter().zip(outputs)) {
                    let (want, got) = (want[usize::from(!isa.is_fused())], digest(&got));
                    if got != want {
                        let name = case.name;
                        wrong += &format!("{name}, {element}, {isa}, {layout}: want {want:#018x}, got {got:#018x}\n");
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "as above, of narrow tensors:\n{wrong}");
}

fn run(case: &Case, isa: Isa, layout: Layout) -> Vec<f32> {
    run_of::<f32>(case, isa, layout)
}

/// The same of 8 bits, which every instruction set has in common: for each case the digests of both roundings.
const OF_8_BITS: &[(&str, [u64; 2])] = &[
    ("3x3", [0x52b2_91af_a750_ce02, 0xe9d8_2b74_f1ab_f355]),
    ("3x3, stride 2", [0xffd6_4416_760a_4ecf, 0x7484_ab34_7235_b21d]),
    ("5x4, dilation 1x2, multiplier 2", [0xb2b3_3e79_4ab3_1841, 0x8be6_4605_cd1b_1c70]),
    ("separable", [0x515f_12ed_d433_b6ef, 0x4718_abbc_3c7b_4d10]),
    ("standard", [0x845b_0d63_1e89_c7f9, 0x8b7c_6f86_df30_eede]),
];

#[test]
fn digests_of_8_bits() {
    use depthwise::int8::{self, Quantized, Rounding, Weights};
    let mut state = 0;
    let mut numbers =
        |len: usize| -> Vec<i8> { (0..len).map(|_| (127.99 * value(&mut state, Values::Plain)) as i8).collect() };
    let (x, first, second, standard) = (numbers(19 * 9 * 21), numbers(38 * 20), numbers(23 * 19), numbers(23 * 19 * 9));
    let scales: Vec<f32> = (0..40).map(|i| 0.004 + i as f32 / 8192.0).collect();
    let bias: Vec<i32> = (0..40).map(|i| (i - 20) * 321).collect();
    let shape = Shape::new(1, 19, 9, 21);
    let (from, between, to) = (Quantized::i8(0.02, -5), Quantized::i8(0.04, -128), Quantized::u8(0.05, 131));
    let mut wrong = String::new();
    let isas = Isa::EVERY.into_iter().filter(|isa| isa.is_available());
    for (isa, layout) in isas.flat_map(|isa| [Layout::Nchw, Layout::Nhwc].map(|layout| (isa, layout))) {
        let digest_of = |rounding: Rounding, case: &str| -> u64 {
            macro_rules! common {
                ($builder:expr) => {
                    $builder.isa(isa).layout(layout).rounding(rounding).input(from).output(to)
                };
            }
            macro_rules! digest_of {
                ($plan:expr) => {{
                    let plan = $plan.expect("a plan");
                    let output = plan.output_shape(shape).expect("a shape");
                    let mut y = vec![0u8; output.len().expect("a length")];
                    let wide: Vec<f32> = x.iter().map(|&x| x.into()).collect();
                    let x: Vec<i8> = reordered(&wide, shape, Layout::Nchw, layout).iter().map(|&x| x as i8).collect();
                    let input = TensorView::new(&x, shape, layout).expect("a view");
                    let view = TensorViewMut::new(&mut y, output, layout).expect("a view");
                    plan.run(Run::new(input, view, &mut Workspace::new())).expect("a run");
                    let wide: Vec<f32> = y.iter().map(|&y| y.into()).collect();
                    digest(&reordered(&wide, output, layout, Layout::Nchw))
                }};
            }
            let depthwise = common!(int8::DepthwiseConv2d::builder(19)).bias(&bias[..19]);
            let of_19 = Weights::i8(&first[..19 * 9], &scales[..19]);
            match case {
                "3x3" => digest_of!(depthwise.weights(of_19).build()),
                "3x3, stride 2" => digest_of!(depthwise.weights(of_19).stride([2, 2]).build()),
                "separable" => {
                    let builder = common!(int8::SeparableConv2d::builder(19, 23)).depthwise_weights(of_19);
                    let builder = builder.between(between).pointwise_weights(Weights::i8(&second, &scales[..23]));
                    digest_of!(builder.bias(&bias[..23]).build())
                }
                "standard" => {
                    let builder = common!(int8::Conv2d::builder(19, 23)).weights(Weights::i8(&standard, &scales[..1]));
                    digest_of!(builder.bias(&bias[..23]).clamp(131, 240).build())
                }
                _ => {
                    let builder = common!(int8::DepthwiseConv2d::builder(19)).channel_multiplier(2);
                    let builder = builder.kernel_size([5, 4]).dilation([1, 2]).padding(Padding::same_upper());
                    digest_of!(builder.weights(Weights::i8(&first, &scales[..38])).build())
                }
            }
        };
        for &(case, wants) in OF_8_BITS {
            for (rounding, want) in [Rounding::NearestEven, Rounding::Tflite].into_iter().zip(wants) {
                let got = digest_of(rounding, case);
                if got != want {
                    wrong += &format!("{case}, {rounding:?}, {isa}, {layout}: want {want:#018x}, got {got:#018x}\n");
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// What goes element by element of 8 bits, outputs of a table and of `f32`: for each the digests of both roundings.
const ELEMENTS_OF_8_BITS: &[(&str, [u64; 2])] = &[
    ("quantize", [0x4cf6_3a7f_4cc3_62dc, 0xb3b0_b890_dd19_b7e1]),
    ("add", [0x5a97_8f4b_588c_f1c4, 0x5e57_d40d_fadf_6606]),
    ("table", [0x43aa_6618_d07c_85ec, 0xcc44_aefe_8295_3b89]),
    ("table of a plan", [0x1779_6d22_b640_5d08, 0xb44a_0b5e_076a_bb3d]),
    ("f32 of a plan", [0x0097_5653_6d92_e58a, 0x636c_21b3_80b6_f4fc]),
];

#[test]
fn digests_of_elements_of_8_bits() {
    use depthwise::int8::{On, PointwiseConv2d, Quantized, Rounding, Table, Weights};
    let mut state = 0;
    // Many lie in the middle between two numbers.
    let mut reals = |len: usize| -> Vec<f32> {
        (0..len).map(|_| (value(&mut state, Values::Plain) * 256.0).trunc() / 256.0).collect()
    };
    let (a, b, weights) = (reals(17 * 60), reals(17 * 60), reals(17 * 21));
    let weights: Vec<i8> = weights.iter().map(|w| (127.99 * w) as i8).collect();
    let bias: Vec<f32> = (0..21).map(|i| i as f32 * 0.01 - 0.1).collect();
    let (from, other, to) =
        (Quantized::i8(1.0 / 128.0, -5), Quantized::i8(3.0 / 256.0, 11), Quantized::i8(1.0 / 64.0, 3));
    let shape = Shape::new(1, 17, 6, 10);
    let mut wrong = String::new();
    for isa in Isa::EVERY.into_iter().filter(|isa| isa.is_available()) {
        let digest_of = |rounding: Rounding, case: &str| -> u64 {
            let wide = |numbers: &[i8]| -> Vec<f32> { numbers.iter().map(|&q| q.into()).collect() };
            let quantized = |x: &[f32], of: Quantized| {
                let mut q = vec![0i8; x.len()];
                On(isa).quantize(x, (&mut q, of), rounding).expect("numbers");
                q
            };
            let a = quantized(&a, from);
            let table = Table::new(from, to, |q| (q * 37 + 11) % 128).expect("a table");
            let builder = PointwiseConv2d::builder(17, 21).isa(isa).layout(Layout::Nhwc).rounding(rounding).input(from);
            let builder = builder.weights(Weights::i8(&weights, &[0.004]));
            let mut y = vec![0i8; a.len()];
            macro_rules! run {
                ($plan:expr, $zero:expr, $run:ident => $given:expr) => {{
                    let plan = $plan.expect("a plan");
                    let mut y = vec![$zero; 21 * 60];
                    let input = TensorView::new(&a, shape, Layout::Nhwc).expect("a view");
                    let output = plan.output_shape(shape).expect("a shape");
                    let output = TensorViewMut::new(&mut y, output, Layout::Nhwc).expect("a view");
                    let (mut workspace, plan) = (Workspace::new(), plan);
                    let $run = Run::new(input, output, &mut workspace);
                    plan.run($given).expect("a run");
                    y
                }};
            }
            match case {
                "quantize" => digest(&wide(&a)),
                "add" => {
                    let b = quantized(&b, other);
                    On(isa).add([(&a, from), (&b, other)], (&mut y, to), rounding, Some([-100, 127])).expect("sums");
                    digest(&wide(&y))
                }
                "table" => {
                    On(isa).look_up(&table, &a, &mut y).expect("numbers");
                    digest(&wide(&y))
                }
                "table of a plan" => digest(&wide(&run!(builder.output_table(table).build(), 0i8, run => run))),
                _ => digest(&run!(builder.output_f32().bias_f32(&bias).build(), 0f32, run => run.quantized(other))),
            }
        };
        for &(case, wants) in ELEMENTS_OF_8_BITS {
            for (rounding, want) in [Rounding::NearestEven, Rounding::Tflite].into_iter().zip(wants) {
                let got = digest_of(rounding, case);
                if got != want {
                    wrong += &format!("{case}, {rounding:?}, {isa}: want {want:#018x}, got {got:#018x}\n");
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The output of a case, in logical order: n, c, h, w. What tensors of that type hold, in `f32`.
fn run_of<E: Element>(case: &Case, isa: Isa, layout: Layout) -> Vec<f32> {
    let channels = case.input.c;
    let middle = channels * case.multiplier;
    let taps = case.kernel[0] * case.kernel[1];
    let (outputs, terms) = match case.operation {
        Depthwise => (middle, taps),
        Pointwise => (case.outputs, channels),
        Separable => (case.outputs, middle),
        Standard => (case.outputs, channels * taps),
    };

    let mut state = 0;
    let mut draw = |len: usize| -> Vec<f32> { (0..len).map(|_| value(&mut state, case.values)).collect() };
    let input = draw(case.input.len().expect(case.name));
    // What lies before the last stage of two.
    let (depthwise, depthwise_bias) = (draw(middle * taps), draw(middle));
    let weights = draw(outputs * terms);
    // As large as a product, so that it does not swamp small ones.
    let bias: Vec<f32> = draw(outputs).iter().map(|x| x * x.abs()).collect();
    let [gamma, beta, mean, variance] = [(); 4].map(|()| draw(outputs));
    let variance: Vec<f32> = variance.iter().map(|x| x.abs()).collect();
    let norm = BatchNorm { gamma: &gamma, beta: &beta, mean: &mean, variance: &variance, epsilon: 1e-3 };

    /// Runs what the builder builds, once it has what all builders have.
    macro_rules! run {
        ($builder:expr) => {{
            let mut builder = $builder.bias(&bias).activation(case.activation).layout(layout).isa(isa);
            if case.batch_norm {
                builder = builder.batch_norm(norm);
            }
            let plan = builder.build_as::<E>().expect(case.name);
            let shape = plan.output_shape(case.input).expect(case.name);
            let input = narrow::<E>(&reordered(&input, case.input, Layout::Nchw, layout));
            let residual = reordered(&draw(shape.len().expect(case.name)), shape, Layout::Nchw, layout);
            let residual = narrow::<E>(&residual);
            let mut output = vec![E::ZERO; residual.len()];
            let (workspace, serial) = (&mut Workspace::new(), Parallelism::Serial);
            let input = TensorView::new(&input, case.input, layout).expect(case.name);
            let residual = TensorView::new(&residual, shape, layout).expect(case.name);
            let view = TensorViewMut::new(&mut output, shape, layout).expect(case.name);
            if case.residual {
                plan.run(Run::new(input, view, workspace).residual(residual).parallelism(serial)).expect(case.name);
            } else {
                plan.run(Run::new(input, view, workspace).parallelism(serial)).expect(case.name);
            }
            reordered(&widen(&output), shape, layout, Layout::Nchw)
        }};
    }
    macro_rules! windowed {
        ($builder:expr) => {
            $builder.kernel_size(case.kernel).stride(case.stride).dilation(case.dilation).padding(case.padding)
        };
    }
    match case.operation {
        Depthwise => {
            run!(windowed!(DepthwiseConv2d::builder(channels)).channel_multiplier(case.multiplier).weights(&weights))
        }
        Pointwise => run!(PointwiseConv2d::builder(channels, outputs).weights(&weights)),
        Separable => run!(
            windowed!(SeparableConv2d::builder(channels, outputs))
                .channel_multiplier(case.multiplier)
                .depthwise_weights(&depthwise)
                .depthwise_bias(&depthwise_bias)
                .depthwise_activation(case.activation)
                .pointwise_weights(&weights)
        ),
        Standard => run!(windowed!(Conv2d::builder(channels, outputs)).weights(&weights)),
    }
}

fn reordered(data: &[f32], shape: Shape, from: Layout, to: Layout) -> Vec<f32> {
    let [from, to] = [from, to].map(|layout| layout.strides(shape).expect("strides"));
    let mut reordered = vec![0.0; data.len()];
    for n in 0..shape.n {
        for c in 0..shape.c {
            for h in 0..shape.h {
                for w in 0..shape.w {
                    let at = |s: Strides| n * s.n + c * s.c + h * s.h + w * s.w;
                    reordered[at(to)] = data[at(from)];
                }
            }
        }
    }
    reordered
}

/// A value from the next number of SplitMix64 (Steele, Lea and Flood, 2014; prng.di.unimi.it/splitmix64.c).
fn value(state: &mut u64, values: Values) -> f32 {
    const SPECIAL: [f32; 8] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.0, 1e-40, -1e-45, f32::MIN_POSITIVE];
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let z = z ^ (z >> 31);
    // Exact: 24 bits.
    let plain = (z >> 40) as f32 / 8_388_608.0 - 1.0;
    match values {
        Values::Plain => plain,
        Values::Wide => 4.0 * plain,
        Values::Special if z.is_multiple_of(40) => SPECIAL[(z / 40 % 8) as usize],
        Values::Special => plain,
        Values::Tiny => 3e-19 * plain,
    }
}

/// FNV-1a, 64 bits, over the little-endian bytes; any NaN counts as the one.
fn digest(output: &[f32]) -> u64 {
    let bits = output.iter().map(|x| if x.is_nan() { 0x7fc0_0000 } else { x.to_bits() });
    bits.flat_map(u32::to_le_bytes)
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
