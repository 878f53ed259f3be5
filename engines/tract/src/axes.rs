//! Which axis of a tensor is which, and the moves from an order of axes to NHWC and back.

use tract_core::internal::*;
use tract_core::ops::nn::DataFormat;

/// What an axis of an image tensor counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    N,
    C,
    H,
    W,
}

use Role::{C, H, N, W};

const NHWC: [Role; 4] = [N, H, W, C];

/// The order of a tensor's axes. Batch and height may be missing: they are 1 then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Axes(Vec<Role>);

impl Axes {
    /// Of a convolution over one or two spatial axes.
    pub(crate) fn of_format(format: DataFormat, spatial: usize) -> Self {
        let spatial = if spatial == 1 { &[W][..] } else { &[H, W] };
        let roles = if format.c_is_last() { [spatial, &[C]].concat() } else { [&[C], spatial].concat() };
        Self(if format.has_n() { [&[N], &roles[..]].concat() } else { roles })
    }

    /// Of a matrix product's tensor: a letter for each axis, of which one counts channels. The other two are height and width, or
    /// three with the batch before them.
    pub(crate) fn of_letters(letters: &str, channel: char) -> Option<Self> {
        let mut others = match letters.chars().filter(|&letter| letter != channel).count() {
            2 => [H, W].iter(),
            3 => [N, H, W].iter(),
            _ => return None,
        };
        letters
            .chars()
            .map(|letter| if letter == channel { Some(C) } else { others.next().copied() })
            .collect::<Option<_>>()
            .map(Self)
    }

    pub(crate) fn rank(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn channels(&self) -> usize {
        self.0.iter().position(|&role| role == C).unwrap_or(0)
    }

    pub(crate) fn channels_are_last(&self) -> bool {
        self.0.last() == Some(&C)
    }

    /// The order after that operation, if it keeps channels and width.
    pub(crate) fn after(&self, op: &AxisOp) -> Option<Self> {
        let mut roles = self.0.clone();
        match *op {
            AxisOp::Add(at) => roles.insert(at, [N, H].into_iter().find(|role| !self.0.contains(role))?),
            AxisOp::Rm(at) if matches!(roles[at], N | H) => _ = roles.remove(at),
            AxisOp::Move(from, to) => {
                let role = roles.remove(from);
                roles.insert(to, role);
            }
            _ => return None,
        }
        Some(Self(roles))
    }

    /// The operations that bring a tensor of this order to NHWC.
    pub(crate) fn enter(&self) -> Vec<AxisOp> {
        let (mut ops, mut roles) = (Vec::new(), self.0.clone());
        if !roles.contains(&N) {
            ops.push(AxisOp::Add(0));
            roles.insert(0, N);
        }
        if let Some(at) = roles.iter().position(|&role| role == W).filter(|_| !roles.contains(&H)) {
            ops.push(AxisOp::Add(at));
            roles.insert(at, H);
        }
        let moved = |from: usize, to: usize| {
            let mut roles = roles.clone();
            let role = roles.remove(from);
            roles.insert(to, role);
            roles
        };
        if roles == NHWC {
            return ops;
        }
        // Nearly always one move does it.
        let pairs = (0..4).flat_map(|from| (0..4).map(move |to| (from, to)));
        if let Some((from, to)) = pairs.into_iter().find(|&(from, to)| moved(from, to) == NHWC) {
            ops.push(AxisOp::Move(from, to));
            return ops;
        }
        for (to, &role) in NHWC.iter().enumerate() {
            let from = roles.iter().position(|&other| other == role).unwrap_or(to);
            if from != to {
                ops.push(AxisOp::Move(from, to));
                roles.remove(from);
                roles.insert(to, role);
            }
        }
        ops
    }

    /// The operations that bring a tensor from NHWC to this order.
    pub(crate) fn leave(&self) -> Vec<AxisOp> {
        let inverse = |op: AxisOp| match op {
            AxisOp::Add(at) => AxisOp::Rm(at),
            AxisOp::Move(from, to) => AxisOp::Move(to, from),
            other => other,
        };
        self.enter().into_iter().rev().map(inverse).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(mut roles: Vec<Role>, ops: &[AxisOp], missing: &[Role]) -> Vec<Role> {
        let mut missing = missing.iter();
        for op in ops {
            match *op {
                AxisOp::Add(at) => roles.insert(at, *missing.next().unwrap()),
                AxisOp::Rm(at) => _ = roles.remove(at),
                AxisOp::Move(from, to) => {
                    let role = roles.remove(from);
                    roles.insert(to, role);
                }
                _ => unreachable!(),
            }
        }
        roles
    }

    #[test]
    fn every_order_goes_to_nhwc_and_back() {
        for (roles, missing) in [
            (vec![N, C, H, W], vec![]),
            (vec![N, H, W, C], vec![]),
            (vec![C, N, H, W], vec![]),
            (vec![W, C, H, N], vec![]),
            (vec![H, N, C, W], vec![]),
            (vec![C, H, W], vec![N]),
            (vec![H, W, C], vec![N]),
            (vec![N, C, W], vec![H]),
            (vec![N, W, C], vec![H]),
            (vec![C, W], vec![N, H]),
            (vec![W, C], vec![N, H]),
        ] {
            let axes = Axes(roles.clone());
            assert_eq!(through(roles.clone(), &axes.enter(), &missing), NHWC, "{roles:?}");
            assert_eq!(through(NHWC.to_vec(), &axes.leave(), &[]), roles);
        }
        assert_eq!(Axes(vec![N, C, H, W]).enter(), [AxisOp::Move(1, 3)]);
    }

    #[test]
    fn letters_say_where_channels_are() {
        assert_eq!(Axes::of_letters("NIHW", 'I'), Some(Axes(vec![N, C, H, W])));
        assert_eq!(Axes::of_letters("HWO", 'O'), Some(Axes(vec![H, W, C])));
        assert_eq!(Axes::of_letters("MK", 'K'), None);
    }

    #[test]
    fn an_order_follows_the_operations_on_axes() {
        let chw = Axes(vec![C, H, W]);
        assert_eq!(chw.after(&AxisOp::Add(0)), Some(Axes(vec![N, C, H, W])));
        assert_eq!(chw.after(&AxisOp::Rm(1)), Some(Axes(vec![C, W])));
        assert_eq!(chw.after(&AxisOp::Rm(2)), None);
        assert_eq!(chw.after(&AxisOp::Move(0, 2)), Some(Axes(vec![H, W, C])));
    }
}
