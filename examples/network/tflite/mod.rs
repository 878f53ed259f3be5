//! Runs an 8-bit network from its TFLite file, to the bit as TFLite's reference kernels do (but for SOFTMAX, within one unit).
//!
//! `schema` reads the file; `quantize` makes one of a network of f32, and `write` writes it. `ops` checks each operator and makes a function
//! of it, `convolution` brings the crate's plans, `rounding` has the rule by which a sum becomes a number
//! of 8 bits. `values` is what goes from one operator to the next, and `command` does what is asked for.

pub(crate) mod command;
pub mod convolution;
pub mod ops;
pub mod quantize;
pub mod rounding;
pub mod schema;
pub mod values;
pub mod write;

use std::path::Path;

use crate::arch::Result;
use crate::files;
use schema::{Graph, Tensor};
use values::{Quantized, Values};

/// The most elements that all tensors together may have.
const MAX_ELEMENTS: usize = 1 << 29;

/// A network ready to run, of one input and one output.
pub struct Network {
    pub operators: Vec<Step>,
    pub input: Port,
    pub output: Port,
    /// Whether the output tells probabilities.
    pub ends_in_softmax: bool,
    /// Side of the central square of photographs, as a share of their shorter side; none is the whole.
    pub central_crop: Option<f64>,
    /// What is known of each tensor before a run.
    constants: Vec<Option<Values>>,
}

/// A tensor at an end of the network.
pub struct Port {
    pub id: usize,
    pub name: String,
    pub shape: Vec<usize>,
    /// Such as `INT8`.
    pub kind: &'static str,
    /// None of f32.
    pub quantized: Option<Quantized>,
}

/// An operator ready to run.
pub struct Step {
    /// Such as `CONV_2D`.
    pub name: String,
    pub shape: Vec<usize>,
    work: ops::Work,
    inputs: Vec<usize>,
    output: usize,
}

impl Network {
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = files::read(path)?;
        Self::parse(&bytes).map_err(|error| format!("{}: {error}", path.display()))
    }

    pub fn parse(bytes: &[u8]) -> Result<Self> {
        Self::build(&Graph::parse(bytes)?)
    }

    pub fn build(graph: &Graph) -> Result<Self> {
        let (&[input], &[output]) = (&graph.inputs[..], &graph.outputs[..]) else {
            let (inputs, outputs) = (graph.inputs.len(), graph.outputs.len());
            return Err(format!("it has {inputs} inputs and {outputs} outputs, one each is supported"));
        };
        let elements = graph.tensors.iter().fold(0, |sum: usize, tensor| sum.saturating_add(tensor.len()));
        if elements > MAX_ELEMENTS {
            return Err(format!("its tensors have {elements} elements together, {MAX_ELEMENTS} at most are supported"));
        }
        let mut constants: Vec<Option<Values>> = graph.tensors.iter().map(|_| None).collect();
        let mut is_known: Vec<bool> = graph.tensors.iter().map(|tensor| !tensor.data.is_empty()).collect();
        is_known[input] = true;
        let mut operators = Vec::new();
        for (index, operator) in graph.operators.iter().enumerate() {
            let in_operator = |error: String| format!("operator {index} ({}): {error}", operator.name);
            let ops::Built { work, inputs } = ops::build(graph, operator).map_err(in_operator)?;
            for &input in &inputs {
                let tensor = &graph.tensors[input];
                if !is_known[input] {
                    return Err(in_operator(format!("it reads tensor `{}` before it is computed", tensor.name)));
                }
                if !tensor.data.is_empty() && constants[input].is_none() {
                    constants[input] = Some(Values::read(tensor, tensor.data).map_err(in_operator)?);
                }
            }
            // `build` has seen to it that there is one.
            let output = operator.outputs[0];
            if is_known[output] {
                return Err(in_operator(format!("it computes tensor `{}` again", graph.tensors[output].name)));
            }
            is_known[output] = true;
            let shape = graph.tensors[output].shape.clone();
            operators.push(Step { name: operator.name.clone(), shape, work, inputs, output });
        }
        if !is_known[output] {
            return Err(format!("no operator computes its output `{}`", graph.tensors[output].name));
        }
        let mut names = operators.iter().rev().map(|step: &Step| step.name.as_str());
        let last = names.find(|name| !["DEQUANTIZE", "QUANTIZE", "RESHAPE"].contains(name));
        let ends_in_softmax = last == Some("SOFTMAX");
        let port = |id: usize| Port::of(id, &graph.tensors[id]);
        let central_crop = match graph.central_crop {
            None => Some(1.0),
            Some("none") => None,
            Some(text) => match text.parse() {
                Ok(share) if share > 0.0 && share <= 1.0 => Some(share),
                _ => return Err(format!("its central_crop is `{text}`, it must be over 0 and at most 1, or `none`")),
            },
        };
        Ok(Network { operators, input: port(input)?, output: port(output)?, ends_in_softmax, central_crop, constants })
    }

    /// The network's output for an input of the input's shape and type, as [`Port::pixels`] makes them. `observe` is shown each operator's number and output.
    pub fn run(&self, input: Values, mut observe: impl FnMut(usize, &Values)) -> Values {
        let mut values: Vec<Option<Values>> = self.constants.iter().map(|_| None).collect();
        values[self.input.id] = Some(input);
        for (index, step) in self.operators.iter().enumerate() {
            let known =
                |&id: &usize| values[id].as_ref().or(self.constants[id].as_ref()).expect("checked when it was built");
            let inputs: Vec<&Values> = step.inputs.iter().map(known).collect();
            let output = (step.work)(&inputs);
            observe(index, &output);
            values[step.output] = Some(output);
        }
        values[self.output.id].take().expect("checked when it was built")
    }
}

impl Port {
    fn of(id: usize, tensor: &Tensor) -> Result<Self> {
        let quantized = (tensor.kind != "FLOAT32").then(|| Quantized::of(tensor)).transpose()?;
        Ok(Self { id, name: tensor.name.clone(), shape: tensor.shape.clone(), kind: tensor.kind, quantized })
    }

    /// Pixels from 0 to 255 as this input takes them: as they are, less 128 as INT8.
    pub fn pixels(&self, pixels: &[u8]) -> Values {
        match self.quantized {
            None => Values::F32(pixels.iter().copied().map(f32::from).collect()),
            Some(Quantized { kind, .. }) => {
                let (low, _) = kind.range();
                kind.pack(pixels.iter().map(|&pixel| i32::from(pixel) + low))
            }
        }
    }

    /// What the numbers of this output stand for.
    pub fn real(&self, values: &Values) -> Vec<f32> {
        match (values, self.quantized) {
            (Values::F32(values), _) => values.clone(),
            (_, Some(quantized)) => values.dequantized(quantized),
            (_, None) => unreachable!("an output of f32 has values of f32"),
        }
    }
}
