//! Which layers of a network an engine computes and which an adapter.

/// How much of a network the adapter computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Level {
    /// The depthwise convolutions; their activations, and all else, by the engine.
    Depthwise,
    /// All convolutions; their activations by the engine.
    Convolutions,
    /// Activations too.
    Activations,
    /// And depthwise with pointwise convolutions as pairs.
    Pairs,
}

/// One or two layers, by their numbers, and what computes them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part {
    /// The engine.
    Engine(usize),
    /// The adapter; the activation by the engine.
    Convolution(usize),
    /// The adapter.
    Layer(usize),
    /// The adapter: a depthwise convolution and the pointwise one after it.
    Pair([usize; 2]),
}

impl Level {
    pub const ALL: [Level; 4] = [Level::Depthwise, Level::Convolutions, Level::Activations, Level::Pairs];

    /// What is measured beside the engine alone: a name, the level, and whether channels are last between the modules.
    pub const MEASURED: [(&str, Level, bool); 6] = [
        ("depthwise convolutions swapped, NCHW", Level::Depthwise, false),
        ("all convolutions swapped, NCHW", Level::Convolutions, false),
        ("activations in the plans, NCHW", Level::Activations, false),
        ("activations in the plans, NHWC", Level::Activations, true),
        ("pairs, NCHW", Level::Pairs, false),
        ("pairs, NHWC", Level::Pairs, true),
    ];

    /// The parts of a network of convolutions, one after the other, in which a pointwise one follows each depthwise one.
    pub fn parts(self, is_depthwise: impl IntoIterator<Item = bool>) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut waiting = None;
        for (index, is_depthwise) in is_depthwise.into_iter().enumerate() {
            match self {
                Level::Depthwise if !is_depthwise => parts.push(Part::Engine(index)),
                Level::Depthwise | Level::Convolutions => parts.push(Part::Convolution(index)),
                Level::Pairs if is_depthwise => waiting = Some(index),
                Level::Activations | Level::Pairs => parts.push(match waiting.take() {
                    Some(first) => Part::Pair([first, index]),
                    None => Part::Layer(index),
                }),
            }
        }
        parts
    }
}
