//! Depthwise layers as networks might have them, and none does.

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use super::{Axes, Block, Kernel, Pad};

/// The most elements of an input: 16 MB.
const LARGEST: usize = 4 << 20;

/// So many random layers, always the same.
pub fn layers(count: usize) -> Vec<Block> {
    let mut rng = StdRng::seed_from_u64(24);
    let mut layers: Vec<Block> = Vec::new();
    while layers.len() < count {
        let layer = layer(&mut rng);
        let is_new = layers.iter().all(|other| other.name != layer.name);
        if layer.c * layer.h * layer.w <= LARGEST && is_new {
            layers.push(layer);
        }
    }
    layers
}

fn layer(rng: &mut impl Rng) -> Block {
    let h = logarithmic(rng, 5, 160);
    let w = if rng.random_ratio(1, 4) { logarithmic(rng, 5, 160) } else { h };
    // Most networks have a multiple of 8, many of 32 or of a power of two.
    let multiple = [1, 8, 8, 16, 32, 128][rng.random_range(0..6)];
    let c = logarithmic(rng, 8, 1536).next_multiple_of(multiple);
    let k = [3, 3, 3, 5, 5, 7][rng.random_range(0..6)];
    let stride = [1, 1, 2][rng.random_range(0..3)];
    let dilation = if stride == 1 && rng.random_ratio(1, 8) { 2 } else { 1 };
    let act = ["none", "relu", "relu6", "hardswish"][rng.random_range(0..4)];
    let mut name = format!("random-{h}x{w}x{c}k{k}");
    for (letter, step) in [("s", stride), ("d", dilation)] {
        if step > 1 {
            name += &format!("{letter}{step}");
        }
    }
    let pad = Pad::Equal(dilation * (k / 2));
    let (kernel, stride, dilation) = (Kernel::Square { k }, Axes::Equal(stride), Axes::Equal(dilation));
    let (act, project_act) = (act.into(), None);
    Block { name, n: 1, c, h, w, kernel, stride, pad, dilation, multiplier: 1, m: None, act, project_act, count: 1 }
}

/// Small ones as often as large ones.
fn logarithmic(rng: &mut impl Rng, least: usize, most: usize) -> usize {
    let logarithm = rng.random_range((least as f64).ln()..=(most as f64).ln());
    (logarithm.exp().round() as usize).clamp(least, most)
}
