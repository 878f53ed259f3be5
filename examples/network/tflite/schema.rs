//! Reads a TFLite file: what of its schema the example needs, as plain data.
//!
//! `planus` checks every offset against the file; the numbers of the fields are those of TFLite's `schema.fbs`.

use planus::errors::ErrorKind;
use planus::table_reader::Table;
use planus::{SliceWithStartOffset, TableRead, Vector};

use crate::arch::Result;

/// The names of the operators, by their number in the schema.
pub const OPERATORS: &str = "\
ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP FLOOR \
FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC \
LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH \
SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER \
BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE \
BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM \
ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE \
TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK \
LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL \
FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL \
REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND \
HARD_SWISH IF WHILE NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM \
BATCH_MATMUL PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS \
HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE \
ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU \
DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2 \
UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT STABLEHLO_LOGISTIC STABLEHLO_ADD STABLEHLO_DIVIDE \
STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM STABLEHLO_RESHAPE STABLEHLO_CLAMP STABLEHLO_CONCATENATE \
STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONVOLUTION STABLEHLO_SLICE STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE \
STABLEHLO_ABS STABLEHLO_AND STABLEHLO_COSINE STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR STABLEHLO_LOG \
STABLEHLO_MINIMUM STABLEHLO_NEGATE STABLEHLO_OR STABLEHLO_POWER STABLEHLO_REMAINDER STABLEHLO_RSQRT \
STABLEHLO_SELECT STABLEHLO_SUBTRACT STABLEHLO_TANH STABLEHLO_SCATTER STABLEHLO_COMPARE STABLEHLO_CONVERT \
STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_PAD STABLEHLO_IOTA STABLEHLO_DOT_GENERAL \
STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE STABLEHLO_GATHER STABLEHLO_TRANSPOSE DILATE \
STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW STABLEHLO_COMPOSITE STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT";

/// The names of the types, by their number in the schema.
pub const TYPES: [&str; 19] = [
    "FLOAT32",
    "FLOAT16",
    "INT32",
    "UINT8",
    "INT64",
    "STRING",
    "BOOL",
    "INT16",
    "COMPLEX64",
    "INT8",
    "FLOAT64",
    "COMPLEX128",
    "UINT64",
    "RESOURCE",
    "VARIANT",
    "UINT32",
    "UINT16",
    "INT4",
    "BFLOAT16",
];

/// The metadata that says which share of a photograph's shorter side is cut out, or `none` for the whole photograph.
pub const CENTRAL_CROP: &str = "central_crop";

/// More elements than any tensor has that fits in a small machine.
const MAX_ELEMENTS: usize = 1 << 28;

#[derive(Debug)]
pub struct Graph<'a> {
    pub tensors: Vec<Tensor<'a>>,
    pub operators: Vec<Operator<'a>>,
    pub inputs: Vec<usize>,
    pub outputs: Vec<usize>,
    /// What the file says under [`CENTRAL_CROP`].
    pub central_crop: Option<&'a str>,
}

#[derive(Debug)]
pub struct Tensor<'a> {
    pub name: String,
    /// As TFLite orders it: n, h, w, c for maps.
    pub shape: Vec<usize>,
    /// Such as `INT8`.
    pub kind: &'static str,
    /// One for the tensor, or one for each index along `axis`, or none.
    pub scales: Vec<f32>,
    pub zero_points: Vec<i64>,
    pub axis: usize,
    /// Empty where an operator computes it.
    pub data: &'a [u8],
}

#[derive(Debug)]
pub struct Operator<'a> {
    /// Such as `CONV_2D`.
    pub name: String,
    /// None for an optional input that is left out.
    pub inputs: Vec<Option<usize>>,
    pub outputs: Vec<usize>,
    pub options: Options<'a>,
}

/// The options of an operator, by the numbers of their fields.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a>(Option<Node<'a>>);

impl Options<'_> {
    pub fn byte(&self, field: usize) -> Result<u8> {
        Ok(self.0.map(|node| node.field::<u8>(field)).transpose()?.flatten().unwrap_or(0))
    }

    /// A number of 1 or more: a stride, an extent.
    pub fn count(&self, field: usize, what: &str, default: i32) -> Result<usize> {
        let value = self.0.map(|node| node.field::<i32>(field)).transpose()?.flatten().unwrap_or(default);
        match usize::try_from(value) {
            Ok(count) if count > 0 => Ok(count),
            _ => Err(format!("the {what} is {value}, it must be 1 or more")),
        }
    }

    pub fn float(&self, field: usize) -> Result<f32> {
        Ok(self.0.map(|node| node.field::<f32>(field)).transpose()?.flatten().unwrap_or(0.0))
    }
}

impl<'a> Graph<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        if bytes.get(4..8) != Some(b"TFL3") {
            return Err("not a TFLite file: bytes 4 to 7 are not `TFL3`".into());
        }
        let start = SliceWithStartOffset { buffer: bytes, offset_from_start: 0 };
        let model = Node::from_buffer(start, 0).map_err(|error| format!("not a TFLite file: {error}"))?;
        let codes = model.nodes(1)?;
        let names = codes.iter().map(operator_name).collect::<Result<Vec<_>>>()?;
        let subgraphs = model.nodes(2)?;
        let [subgraph] = subgraphs[..] else {
            return Err(format!("it has {} subgraphs, only networks of one are supported", subgraphs.len()));
        };
        let buffers = model.nodes(4)?;
        let tensors =
            subgraph.nodes(0)?.iter().map(|&node| Tensor::read(node, &buffers)).collect::<Result<Vec<_>>>()?;
        let count = tensors.len();
        let all_known =
            |indices: Vec<i32>| indices.into_iter().map(|index| known(index, count)).collect::<Result<Vec<_>>>();
        let read = |node: &Node<'a>| {
            let code = node.field::<u32>(0)?.unwrap_or(0);
            let name = names.get(code as usize).ok_or_else(|| format!("an operator has the unknown code {code}"))?;
            let inputs = node.numbers::<i32>(1)?.into_iter();
            let inputs = inputs.map(|index| (index != -1).then(|| known(index, count)).transpose());
            Ok(Operator {
                name: name.clone(),
                inputs: inputs.collect::<Result<_>>()?,
                outputs: all_known(node.numbers(2)?)?,
                options: Options(node.field(4)?),
            })
        };
        let operators = subgraph.nodes(3)?.iter().map(read).collect::<Result<_>>()?;
        let (inputs, outputs) = (all_known(subgraph.numbers(1)?)?, all_known(subgraph.numbers(2)?)?);
        let mut central_crop = None;
        for entry in model.nodes(6)? {
            if entry.field::<&str>(0)? == Some(CENTRAL_CROP) {
                let buffer = buffers.get(entry.field::<u32>(1)?.unwrap_or(0) as usize);
                let text = buffer.map(|buffer| buffer.field::<&[u8]>(0)).transpose()?.flatten();
                central_crop = text.and_then(|text| std::str::from_utf8(text).ok());
            }
        }
        Ok(Graph { tensors, operators, inputs, outputs, central_crop })
    }
}

impl<'a> Tensor<'a> {
    fn read(node: Node<'a>, buffers: &[Node<'a>]) -> Result<Self> {
        let name = node.field::<&str>(3)?.unwrap_or("unnamed").to_owned();
        let in_tensor = |error: String| format!("tensor `{name}`: {error}");
        let shape = node.numbers::<i32>(0)?;
        let extents = shape.iter().map(|&extent| usize::try_from(extent).ok());
        let extents = extents.collect::<Option<Vec<_>>>();
        let elements = extents.as_deref().and_then(|extents| {
            // As if none were 0, so that no part of the product overflows either.
            extents.iter().try_fold(1, |product: usize, &extent| product.checked_mul(extent.max(1)))
        });
        let extents = match (extents, elements) {
            (Some(extents), Some(elements)) if elements <= MAX_ELEMENTS => extents,
            _ => return Err(in_tensor(format!("the shape {shape:?} has negative extents or too many elements"))),
        };
        let kind = usize::from(node.field::<u8>(1)?.unwrap_or(0));
        let kind = TYPES.get(kind).ok_or_else(|| in_tensor(format!("the type {kind} is unknown")))?;
        let buffer = node.field::<u32>(2)?.unwrap_or(0);
        let buffer = buffers.get(buffer as usize).ok_or_else(|| in_tensor(format!("there is no buffer {buffer}")))?;
        let data = buffer.field::<&[u8]>(0)?.unwrap_or(&[]);
        let (mut scales, mut zero_points, mut axis) = (Vec::new(), Vec::new(), 0);
        if let Some(quantization) = node.field::<Node>(4)? {
            scales = quantization.numbers(2)?;
            zero_points = quantization.numbers(3)?;
            let given = quantization.field::<i32>(6)?.unwrap_or(0);
            axis = usize::try_from(given).map_err(|_| in_tensor(format!("it is quantised along axis {given}")))?;
        }
        Ok(Tensor { name, shape: extents, kind, scales, zero_points, axis, data })
    }

    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn operator_name(code: &Node) -> Result<String> {
    // The first field holds numbers up to 127, the last one, which is younger, any.
    let number = code.field::<u8>(0)?.map_or(0, i32::from).max(code.field::<i32>(3)?.unwrap_or(0));
    let known = usize::try_from(number).ok().and_then(|number| OPERATORS.split_whitespace().nth(number));
    let name = known.map_or_else(|| format!("operator number {number}"), String::from);
    Ok(match code.field::<&str>(1)? {
        Some(custom) if name == "CUSTOM" => format!("CUSTOM {custom}"),
        _ => name,
    })
}

fn known(index: i32, tensors: usize) -> Result<usize> {
    let known = usize::try_from(index).ok().filter(|&index| index < tensors);
    known.ok_or_else(|| format!("tensor {index} is used, there are {tensors}"))
}

/// A table of the file.
#[derive(Clone, Copy, Debug)]
struct Node<'a>(Table<'a>);

impl<'a> Node<'a> {
    fn field<T: TableRead<'a>>(&self, number: usize) -> Result<Option<T>> {
        self.0.access(number, "table", "field").map_err(|error| format!("not a sound TFLite file: {error}"))
    }

    fn nodes(&self, number: usize) -> Result<Vec<Node<'a>>> {
        Ok(self.field::<Nodes>(number)?.map_or_else(Vec::new, |nodes| nodes.0))
    }

    fn numbers<T: 'a>(&self, number: usize) -> Result<Vec<T>>
    where
        Vector<'a, T>: TableRead<'a> + IntoIterator<Item = T>,
    {
        Ok(self.field::<Vector<T>>(number)?.into_iter().flatten().collect())
    }
}

impl<'a> TableRead<'a> for Node<'a> {
    fn from_buffer(buffer: SliceWithStartOffset<'a>, offset: usize) -> std::result::Result<Self, ErrorKind> {
        Table::from_buffer(buffer, offset).map(Node)
    }
}

/// A vector of tables: the distance to its length, then the distances to its tables from where each distance is.
struct Nodes<'a>(Vec<Node<'a>>);

impl<'a> TableRead<'a> for Nodes<'a> {
    fn from_buffer(buffer: SliceWithStartOffset<'a>, offset: usize) -> std::result::Result<Self, ErrorKind> {
        let distance = u32::from_buffer(buffer, offset)? as usize;
        let start = offset.checked_add(distance).ok_or(ErrorKind::InvalidOffset)?;
        let count = u32::from_buffer(buffer, start)? as usize;
        // The first table that is not there ends it, so the positions stay within the file.
        let nodes = (1..=count).map(|index| Node::from_buffer(buffer, start + 4 * index));
        nodes.collect::<std::result::Result<_, _>>().map(Nodes)
    }
}
