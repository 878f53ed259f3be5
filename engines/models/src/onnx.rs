//! Writes ONNX files: the few fields of the format that networks of convolutions need.

/// The extent of an axis: a number, or the name of one that is not known yet.
#[derive(Clone, Debug)]
pub enum Dim {
    Size(usize),
    Symbol(&'static str),
}

impl From<usize> for Dim {
    fn from(size: usize) -> Self {
        Dim::Size(size)
    }
}

impl From<&'static str> for Dim {
    fn from(name: &'static str) -> Self {
        Dim::Symbol(name)
    }
}

/// The value of a node's attribute.
#[derive(Clone, Debug)]
pub enum Attribute {
    Int(i64),
    Ints(Vec<i64>),
    Float(f32),
    Text(&'static str),
}

impl From<usize> for Attribute {
    fn from(value: usize) -> Self {
        Attribute::Int(value as i64)
    }
}

impl From<f32> for Attribute {
    fn from(value: f32) -> Self {
        Attribute::Float(value)
    }
}

impl From<&'static str> for Attribute {
    fn from(value: &'static str) -> Self {
        Attribute::Text(value)
    }
}

impl<const N: usize> From<[usize; N]> for Attribute {
    fn from(values: [usize; N]) -> Self {
        Attribute::Ints(values.iter().map(|&value| value as i64).collect())
    }
}

impl From<Vec<usize>> for Attribute {
    fn from(values: Vec<usize>) -> Self {
        Attribute::Ints(values.into_iter().map(|value| value as i64).collect())
    }
}

/// A message of protocol buffers.
#[derive(Clone, Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 128 {
            self.0.push(value as u8 | 128);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn int(mut self, field: u64, value: i64) -> Self {
        self.varint(field << 3);
        self.varint(value as u64);
        self
    }

    fn float(mut self, field: u64, value: f32) -> Self {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    fn text(self, field: u64, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    fn message(self, field: u64, message: Message) -> Self {
        self.bytes(field, &message.0)
    }
}

/// A graph in the making. Values are known by their names, which its methods give.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    fields: Message,
    names: usize,
}

const FLOAT: i64 = 1;
const INT64: i64 = 7;

impl Graph {
    pub fn new() -> Self {
        Self::default()
    }

    fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}_{}", self.names)
    }

    fn field(&mut self, field: u64, message: Message) {
        self.fields = std::mem::take(&mut self.fields).message(field, message);
    }

    fn value(name: &str, dims: &[Dim]) -> Message {
        let shape = dims.iter().fold(Message::default(), |shape, dim| {
            let dim = match dim {
                Dim::Size(size) => Message::default().int(1, *size as i64),
                Dim::Symbol(name) => Message::default().text(2, name),
            };
            shape.message(1, dim)
        });
        let tensor = Message::default().int(1, FLOAT).message(2, shape);
        Message::default().text(1, name).message(2, Message::default().message(1, tensor))
    }

    /// An input of the model.
    pub fn input(&mut self, name: &str, dims: &[Dim]) -> String {
        self.field(11, Self::value(name, dims));
        name.to_string()
    }

    /// Makes a value an output of the model.
    pub fn output(&mut self, name: &str) {
        let tensor = Message::default().int(1, FLOAT);
        let value = Message::default().text(1, name).message(2, Message::default().message(1, tensor));
        self.field(12, value);
    }

    fn initializer(&mut self, dims: &[usize], data_type: i64, bytes: &[u8]) -> String {
        let name = self.name("constant");
        let tensor = dims.iter().fold(Message::default(), |tensor, &dim| tensor.int(1, dim as i64));
        self.field(5, tensor.int(2, data_type).text(8, &name).bytes(9, bytes));
        name
    }

    /// A constant tensor.
    pub fn constant(&mut self, dims: &[usize], values: &[f32]) -> String {
        assert_eq!(dims.iter().product::<usize>(), values.len(), "a constant of shape {dims:?}");
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(dims, FLOAT, &bytes)
    }

    /// A constant number.
    pub fn scalar(&mut self, value: f32) -> String {
        self.constant(&[], &[value])
    }

    /// A constant vector of whole numbers, as shapes are given.
    pub fn ints(&mut self, values: &[i64]) -> String {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(&[values.len()], INT64, &bytes)
    }

    /// A node with one output, whose name it gives. An input that is left out is an empty name.
    pub fn node(&mut self, op: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> String {
        let name = self.name(&op.to_lowercase());
        let node = inputs.iter().fold(Message::default(), |node, input| node.text(1, input));
        let node = node.text(2, &name).text(3, &name).text(4, op);
        let node = attributes.iter().fold(node, |node, (name, value)| {
            let attribute = Message::default().text(1, name);
            let attribute = match value {
                Attribute::Float(value) => attribute.float(2, *value).int(20, 1),
                Attribute::Int(value) => attribute.int(3, *value).int(20, 2),
                Attribute::Text(value) => attribute.text(4, value).int(20, 3),
                Attribute::Ints(values) => values.iter().fold(attribute, |a, &value| a.int(8, value)).int(20, 7),
            };
            node.message(5, attribute)
        });
        self.field(1, node);
        name
    }

    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let graph = self.fields.clone().text(2, "depthwise-models");
        let operators = Message::default().text(1, "").int(2, 17);
        Message::default().int(1, 8).text(2, "depthwise-models").message(7, graph).message(8, operators).0
    }
}
