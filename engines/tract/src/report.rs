//! What became of a model's nodes.

use std::fmt;

/// What a [`transform`](crate::DepthwiseTransform) replaced, what it left to tract, and why.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// One entry for each convolution, pair of convolutions, or sum over pixels after them, that is computed here now.
    pub replaced: Vec<Replaced>,
    /// One entry for each other node, but constants and inputs.
    pub left: Vec<Left>,
}

/// Nodes that one plan, or a sum, computes now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Replaced {
    /// Their names: the convolution's first.
    pub nodes: Vec<String>,
    /// The plan: its kind, numbers and kernels.
    pub plan: String,
}

/// A node that stays tract's.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Left {
    /// Its name.
    pub node: String,
    /// Its operation, as tract calls it.
    pub op: String,
    /// Why, if it is a convolution.
    pub why: Option<String>,
}

impl Report {
    /// The convolutions that stay tract's.
    pub fn left_convolutions(&self) -> impl Iterator<Item = &Left> {
        self.left.iter().filter(|left| left.why.is_some())
    }
}

impl fmt::Display for Replaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "replaced {} by {}", self.nodes.join(", "), self.plan)
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "left {} ({}) to tract: {}", self.node, self.op, self.why.as_deref().unwrap_or("no convolution"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.replaced.iter().try_for_each(|replaced| writeln!(f, "{replaced}"))?;
        self.left.iter().try_for_each(|left| writeln!(f, "{left}"))
    }
}
