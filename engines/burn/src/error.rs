//! What can go wrong.

use std::fmt;

/// Why a layer has no plan, or a plan does not take a tensor.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A parameter, a shape or an activation that `depthwise` refuses.
    Plan(depthwise::Error),
    /// A tensor that is not one of burn-flex, or that gradients are asked for.
    Backend {
        /// Which tensor.
        what: &'static str,
        /// The device it is on.
        device: String,
    },
    /// A tensor whose elements are not `f32`.
    Elements {
        /// Which tensor.
        what: &'static str,
        /// Its elements.
        found: String,
    },
    /// `PaddingConfig2d::Same` with a dilation: burn pads such a layer as if it had none.
    SamePadding {
        /// The dilation, `[height, width]`.
        dilation: [usize; 2],
    },
    /// A batch norm of other channels than those of the convolution before it.
    BatchNorm {
        /// Those of the batch norm.
        channels: usize,
        /// Output channels of the convolution.
        outputs: usize,
    },
    /// Two layers that are no depthwise convolution with a pointwise one after it.
    Pair {
        /// Why not.
        why: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Plan(error) => error.fmt(f),
            Error::Backend { what, device } => write!(
                f,
                "the {what} is on the device {device}: plans take tensors of burn-flex without autodiff (`Tensor::inner`)"
            ),
            Error::Elements { what, found } => {
                write!(f, "the {what} has elements of {found}, plans have F32: cast it, or leave the layer to burn")
            }
            Error::SamePadding { dilation: [height, width] } => write!(
                f,
                "padding Same with dilation {height}x{width}: burn pads as if there were none, plans do not; give the padding as \
                 Explicit"
            ),
            Error::BatchNorm { channels, outputs } => {
                write!(f, "the batch norm has {channels} channels, the convolution before it has {outputs} outputs")
            }
            Error::Pair { why } => write!(f, "the two layers are no separable convolution: {why}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Plan(error) => Some(error),
            _ => None,
        }
    }
}

impl From<depthwise::Error> for Error {
    fn from(error: depthwise::Error) -> Self {
        Error::Plan(error)
    }
}
