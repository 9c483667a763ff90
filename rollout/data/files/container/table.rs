//! Rows of tables in Arrow's memory layout, which Parquet and the files of the `datasets` library are read into:
//! text, numbers, booleans, lists, structs and maps as JSON, bytes that are no text beside it.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Decimal128Type, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use serde_json::{Map, Value};

use super::record::{BytesUse, Reading, Record};

/// Row `at` of a batch, which holds the columns that are used.
pub(super) fn record(batch: &RecordBatch, at: usize, reading: &Reading) -> Result<Record, String> {
    let mut record = Record::row(reading.bytes);
    let mut map = Map::new();
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        if !(reading.column)(field.name()) {
            continue;
        }
        match cell(column.as_ref(), at, &mut (&mut record, reading.bytes)) {
            Ok(value) => drop(map.insert(field.name().clone(), value)),
            Err(_) if reading.bytes == BytesUse::LeftBehind => {
                record.left_behind.push(field.name().clone());
            }
            Err(problem) => return Err(format!("column `{}`: {problem}", field.name())),
        }
    }
    record.value = Value::Object(map);
    Ok(record)
}

/// The record that bytes are kept in, and whether they are.
type Kept<'a> = (&'a mut Record, BytesUse);

/// One value of a column; a number that is none is null, as Python's JSON readers have it.
fn cell(array: &dyn Array, at: usize, record: &mut Kept) -> Result<Value, String> {
    if array.is_null(at) {
        return Ok(Value::Null);
    }
    macro_rules! number {
        ($kind:ty) => {
            Value::from(array.as_primitive::<$kind>().value(at))
        };
    }
    Ok(match array.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => array.as_boolean().value(at).into(),
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Float16 => f32::from(array.as_primitive::<Float16Type>().value(at)).into(),
        DataType::Float32 => short(array.as_primitive::<Float32Type>().value(at)),
        DataType::Float64 => number!(Float64Type),
        DataType::Decimal128(..) => array
            .as_primitive::<Decimal128Type>()
            .value_as_string(at)
            .into(),
        DataType::Utf8 => array.as_string::<i32>().value(at).into(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(at).into(),
        DataType::Utf8View => array.as_string_view().value(at).into(),
        DataType::Binary => bytes(array.as_binary::<i32>().value(at), record)?,
        DataType::LargeBinary => bytes(array.as_binary::<i64>().value(at), record)?,
        DataType::BinaryView => bytes(array.as_binary_view().value(at), record)?,
        DataType::FixedSizeBinary(_) => bytes(array.as_fixed_size_binary().value(at), record)?,
        DataType::List(_) => list(array.as_list::<i32>().value(at).as_ref(), record)?,
        DataType::LargeList(_) => list(array.as_list::<i64>().value(at).as_ref(), record)?,
        DataType::FixedSizeList(..) => list(array.as_fixed_size_list().value(at).as_ref(), record)?,
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns().iter();
            let cells = fields.iter().zip(columns).map(|(field, column)| {
                let value = cell(column.as_ref(), at, record)
                    .map_err(|problem| format!("`{}`: {problem}", field.name()))?;
                Ok((field.name().clone(), value))
            });
            Value::Object(cells.collect::<Result<_, String>>()?)
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(at);
            let mut map = Map::new();
            for entry in 0..entries.len() {
                let name = match cell(entries.column(0).as_ref(), entry, record)? {
                    Value::String(name) => name,
                    other => other.to_string(),
                };
                let value = cell(entries.column(1).as_ref(), entry, record)?;
                map.insert(name, value);
            }
            Value::Object(map)
        }
        other => return Err(format!("values of the type {other} are not read")),
    })
}

/// A float of 32 bits by its shortest digits, as it was written.
fn short(value: f32) -> Value {
    value
        .to_string()
        .parse::<f64>()
        .map_or(Value::Null, Value::from)
}

fn list(values: &dyn Array, record: &mut Kept) -> Result<Value, String> {
    let cells = (0..values.len()).map(|at| cell(values, at, record));
    cells.collect()
}

/// Bytes are text where they can be: writers without types for text have columns of bytes alone.
fn bytes(value: &[u8], (record, used): &mut Kept) -> Result<Value, String> {
    match (std::str::from_utf8(value), used) {
        (Ok(text), _) => Ok(text.into()),
        (Err(_), BytesUse::Kept) => Ok(record.keep(value)),
        (Err(_), BytesUse::PassedOver) => Ok(Value::Null),
        (Err(_), BytesUse::LeftBehind) => Err("bytes that are no text".into()),
    }
}
