//! An ONNX graph, built node by node.

use super::messages::{
    AttributeProto, Dimension, FLOAT, GraphProto, NodeProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto,
    ValueInfoProto,
};
use crate::model::archive::StoredArray;
use crate::{Error, Result};
use tch::Tensor;

/// A graph of which each value has a name. Values of nodes are called by the operator and a number, so that no name of a
/// layer is one of theirs: these end in `weight` and the like.
pub(super) struct Graph {
    proto: GraphProto,
}

impl Graph {
    pub(super) fn new(name: &str) -> Self {
        Graph { proto: GraphProto { name: name.into(), ..GraphProto::default() } }
    }

    pub(super) fn into_proto(self) -> GraphProto {
        self.proto
    }

    /// An input of rows of `shape`, their number free.
    pub(super) fn input(&mut self, name: &str, shape: &[usize]) -> String {
        self.proto.input.push(rows(name, shape));
        name.into()
    }

    /// Makes `value` an output of rows of `shape`.
    pub(super) fn output(&mut self, name: &str, shape: &[usize], value: &str) {
        self.push("Identity", &[value], vec![name.into()], vec![]);
        self.proto.output.push(rows(name, shape));
    }

    /// What the operator `op` makes of `inputs`.
    pub(super) fn apply(&mut self, op: &str, inputs: &[impl AsRef<str>]) -> String {
        self.apply_with(op, inputs, vec![])
    }

    /// As [`Graph::apply`], with attributes.
    pub(super) fn apply_with(
        &mut self,
        op: &str,
        inputs: &[impl AsRef<str>],
        attributes: Vec<AttributeProto>,
    ) -> String {
        let value = format!("{op}.{}", self.proto.node.len());
        self.push(op, inputs, vec![value.clone()], attributes);
        value
    }

    /// The first and the second half of each row of `value`.
    pub(super) fn halves(&mut self, value: &str) -> [String; 2] {
        let number = self.proto.node.len();
        let halves = [0, 1].map(|half| format!("Split.{number}.{half}"));
        self.push("Split", &[value], halves.to_vec(), vec![AttributeProto::int("axis", 1)]);
        halves
    }

    /// The mean of `values`.
    pub(super) fn mean(&mut self, values: &[String]) -> String {
        if let [value] = values { value.clone() } else { self.apply("Mean", values) }
    }

    /// A tensor of a network.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(super) fn tensor(&mut self, name: &str, tensor: &Tensor) -> Result<String> {
        Ok(self.initializer(name, StoredArray::from_tensor(tensor)?))
    }

    /// Numbers of `shape`, rounded to f32.
    ///
    /// # Errors
    /// [`Error::Numerical`] for one that f32 does not hold; [`Error::OutOfMemory`].
    pub(super) fn numbers(&mut self, name: &str, shape: &[usize], values: &[f64]) -> Result<String> {
        let rounded: Vec<f32> = values.iter().map(|&value| value as f32).collect();
        if let Some(at) = rounded.iter().position(|value| !value.is_finite()) {
            let value = values[at];
            return Err(Error::Numerical(format!("{name} is {value:e} at [{at}]: ONNX's float holds up to 3.4e38")));
        }
        Ok(self.initializer(name, StoredArray::f32(shape.to_vec(), &rounded)?))
    }

    /// A number that is the same for all values.
    ///
    /// # Errors
    /// As [`Graph::numbers`].
    pub(super) fn constant(&mut self, value: f64) -> Result<String> {
        let name = format!("constant.{value}");
        if self.proto.initializer.iter().any(|known| known.name == name) {
            return Ok(name);
        }
        self.numbers(&name, &[], &[value])
    }

    fn initializer(&mut self, name: &str, array: StoredArray) -> String {
        let dims = array.shape().iter().map(|&size| size as i64).collect();
        let raw_data = array.into_bytes();
        self.proto.initializer.push(TensorProto { dims, data_type: FLOAT, name: name.into(), raw_data });
        name.into()
    }

    fn push(&mut self, op: &str, inputs: &[impl AsRef<str>], output: Vec<String>, attribute: Vec<AttributeProto>) {
        let input = inputs.iter().map(|name| name.as_ref().into()).collect();
        let name = format!("{op}_{}", self.proto.node.len());
        self.proto.node.push(NodeProto { input, output, name, op_type: op.into(), attribute });
    }
}

/// The type of floats of shape `[rows, ...shape]`.
fn rows(name: &str, shape: &[usize]) -> ValueInfoProto {
    let free = Dimension { dim_param: Some("rows".into()), dim_value: None };
    let sizes = shape.iter().map(|&size| Dimension { dim_value: Some(size as i64), dim_param: None });
    let dim = [free].into_iter().chain(sizes).collect();
    let tensor_type = TensorTypeProto { elem_type: FLOAT, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}
