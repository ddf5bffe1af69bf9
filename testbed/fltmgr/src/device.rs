// SPDX-License-Identifier: MIT OR Apache-2.0
//! How fltlib.dll talks to the Filter Manager's two devices: control codes and input blocks.
//!
//! A connection is a file handle on the *message device*; messages travel as device controls on it,
//! with Windows' own codes. The *control device* loads and unloads filters.
//!
//! One thing differs from Windows. There a service connects by opening the message device with the
//! extended attribute `FLTPORT`; where an open carries no extended attributes (Wine), the same data
//! follows the open as the input of [`CONNECT`], a code of ours in the range that Microsoft leaves
//! to others.
//!
//! All integers are little-endian; names are UTF-16 without a terminator.

use alloc::vec::Vec;

use crate::connection::CONTEXT_LIMIT;
use crate::status::Status;

/// Name of the message device's link, as a kernel sees it; a program opens `\\.\FltMgrMsg`.
pub const MESSAGE_DEVICE_LINK: &str = "\\??\\FltMgrMsg";
/// Name of the control device's link, as a kernel sees it; a program opens `\\.\FltMgr`.
pub const CONTROL_DEVICE_LINK: &str = "\\??\\FltMgr";

/// FilterLoad, on the control device. Input: [`encode_name`]; no output.
pub const LOAD: u32 = control_code(1, Method::Buffered, WRITE);
/// FilterUnload, on the control device. Input: [`encode_name`]; no output.
pub const UNLOAD: u32 = control_code(2, Method::Buffered, WRITE);
/// FilterSendMessage. Input: the service's message; output: the driver's answer.
pub const SEND_MESSAGE: u32 = control_code(6, Method::Neither, WRITE);
/// FilterGetMessage. No input; output: header and message.
pub const GET_MESSAGE: u32 = control_code(7, Method::Neither, READ);
/// FilterReplyMessage. Input: header and reply; no output.
pub const REPLY_MESSAGE: u32 = control_code(8, Method::Neither, WRITE);
/// Connects a handle of the message device to a port. Input: [`ConnectBlock::encode`]; no output.
/// Not a code of Windows, see the module.
pub const CONNECT: u32 = control_code(0x800, Method::Buffered, READ | WRITE);

/// `FILE_DEVICE_DISK_FILE_SYSTEM`, the devices' type.
const DEVICE_TYPE: u32 = 8;
/// `FILE_READ_ACCESS`.
const READ: u32 = 1;
/// `FILE_WRITE_ACCESS`.
const WRITE: u32 = 2;

/// How the I/O manager hands buffers over.
enum Method {
    Buffered = 0,
    Neither = 3,
}

/// `CTL_CODE` with the devices' type.
const fn control_code(function: u32, method: Method, access: u32) -> u32 {
    DEVICE_TYPE << 16 | access << 14 | function << 2 | method as u32
}

/// Input of [`CONNECT`]: u16 length of the name in bytes, u16 length of the context in bytes, the
/// name, the context. Nothing follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectBlock {
    /// The port's full name.
    pub name: Vec<u16>,
    /// What the service hands to the driver's ConnectNotify; at most [`CONTEXT_LIMIT`] bytes.
    pub context: Vec<u8>,
}

impl ConnectBlock {
    /// The bytes of a connect to `name` with `context`.
    ///
    /// # Errors
    /// STATUS_OBJECT_NAME_INVALID for a name that no UNICODE_STRING holds, STATUS_INTEGER_OVERFLOW
    /// for a context that no extended attribute of Windows would hold.
    pub fn encode(name: &[u16], context: &[u8]) -> Result<Vec<u8>, Status> {
        let name_length = name_length(name)?;
        let context_length = u16::try_from(context.len())
            .ok()
            .filter(|_| context.len() <= CONTEXT_LIMIT)
            .ok_or(Status::INTEGER_OVERFLOW)?;
        let mut bytes = Vec::with_capacity(4 + usize::from(name_length) + context.len());
        bytes.extend_from_slice(&name_length.to_le_bytes());
        bytes.extend_from_slice(&context_length.to_le_bytes());
        bytes.extend(name.iter().flat_map(|unit| unit.to_le_bytes()));
        bytes.extend_from_slice(context);
        Ok(bytes)
    }

    /// Reads the input of [`CONNECT`].
    ///
    /// # Errors
    /// STATUS_INVALID_PARAMETER unless the two lengths account for all of `bytes`, or for a length
    /// that is none.
    pub fn decode(bytes: &[u8]) -> Result<ConnectBlock, Status> {
        let (name_length, rest) = split_length(bytes)?;
        let (context_length, rest) = split_length(rest)?;
        let (name, context) = rest
            .split_at_checked(name_length)
            .ok_or(Status::INVALID_PARAMETER)?;
        if context.len() != context_length || context_length > CONTEXT_LIMIT {
            return Err(Status::INVALID_PARAMETER);
        }
        Ok(ConnectBlock {
            name: units(name)?,
            context: context.to_vec(),
        })
    }
}

/// Input of [`LOAD`] and [`UNLOAD`]: u16 length of the service's name in bytes, the name.
///
/// # Errors
/// STATUS_OBJECT_NAME_INVALID for a name that no UNICODE_STRING holds.
pub fn encode_name(name: &[u16]) -> Result<Vec<u8>, Status> {
    let length = name_length(name)?;
    let units = name.iter().flat_map(|unit| unit.to_le_bytes());
    Ok(length.to_le_bytes().into_iter().chain(units).collect())
}

/// Reads the input of [`LOAD`] and [`UNLOAD`]; what follows the name is passed over.
///
/// # Errors
/// STATUS_INVALID_PARAMETER if the name is not all there, is empty, or is no UTF-16.
pub fn decode_name(bytes: &[u8]) -> Result<Vec<u16>, Status> {
    let (length, rest) = split_length(bytes)?;
    match rest.get(..length) {
        Some(name) if !name.is_empty() => units(name),
        _ => Err(Status::INVALID_PARAMETER),
    }
}

/// The length of a name in bytes, as a UNICODE_STRING has it.
fn name_length(name: &[u16]) -> Result<u16, Status> {
    let bytes = name.len().saturating_mul(2);
    u16::try_from(bytes).map_err(|_| Status::OBJECT_NAME_INVALID)
}

fn split_length(bytes: &[u8]) -> Result<(usize, &[u8]), Status> {
    let (length, rest) = bytes
        .split_first_chunk::<2>()
        .ok_or(Status::INVALID_PARAMETER)?;
    Ok((usize::from(u16::from_le_bytes(*length)), rest))
}

fn units(bytes: &[u8]) -> Result<Vec<u16>, Status> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Status::INVALID_PARAMETER);
    }
    Ok(pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn utf16(text: &str) -> Vec<u16> {
        text.encode_utf16().collect()
    }

    #[test]
    fn codes_are_those_of_windows() {
        let table = [
            (LOAD, 0x0008_8004),
            (UNLOAD, 0x0008_8008),
            (SEND_MESSAGE, 0x0008_801B),
            (GET_MESSAGE, 0x0008_401F),
            (REPLY_MESSAGE, 0x0008_8023),
            (CONNECT, 0x0008_E000),
        ];
        for (code, documented) in table {
            assert_eq!(code, documented, "0x{code:08X}");
        }
    }

    #[test]
    fn a_connect_block_as_bytes() {
        let bytes = ConnectBlock::encode(&utf16("\\P"), b"abc").unwrap();
        let golden = [4, 0, 3, 0, b'\\', 0, b'P', 0, b'a', b'b', b'c'];
        assert_eq!(bytes, golden);
        let block = ConnectBlock::decode(&golden).unwrap();
        assert_eq!(block.name, utf16("\\P"));
        assert_eq!(block.context, b"abc");
    }

    #[test]
    fn a_context_has_windows_limit() {
        let name = utf16("\\P");
        assert!(ConnectBlock::encode(&name, &vec![0; CONTEXT_LIMIT]).is_ok());
        let beyond = ConnectBlock::encode(&name, &vec![0; CONTEXT_LIMIT + 1]);
        assert_eq!(beyond, Err(Status::INTEGER_OVERFLOW));
        let beyond = ConnectBlock::encode(&name, &vec![0; 1 << 16]);
        assert_eq!(beyond, Err(Status::INTEGER_OVERFLOW));

        let length = u16::try_from(CONTEXT_LIMIT).unwrap() + 1;
        let mut forged = vec![0, 0];
        forged.extend_from_slice(&length.to_le_bytes());
        forged.resize(4 + usize::from(length), 0);
        assert_eq!(
            ConnectBlock::decode(&forged),
            Err(Status::INVALID_PARAMETER)
        );
    }

    #[test]
    fn a_name_has_the_limit_of_a_unicode_string() {
        let longest = vec![u16::from(b'a'); 0x7FFF];
        assert_eq!(
            decode_name(&encode_name(&longest).unwrap()).unwrap(),
            longest
        );
        let beyond = vec![u16::from(b'a'); 0x8000];
        assert_eq!(encode_name(&beyond), Err(Status::OBJECT_NAME_INVALID));
        assert_eq!(
            ConnectBlock::encode(&beyond, b""),
            Err(Status::OBJECT_NAME_INVALID)
        );
    }

    #[test]
    fn lengths_that_do_not_add_up_are_refused() {
        let good = ConnectBlock::encode(&utf16("\\P"), b"abc").unwrap();
        for short in 0..good.len() {
            let found = ConnectBlock::decode(&good[..short]);
            assert_eq!(found, Err(Status::INVALID_PARAMETER), "{short} bytes");
        }
        let longer = [good.as_slice(), &[0]].concat();
        assert_eq!(
            ConnectBlock::decode(&longer),
            Err(Status::INVALID_PARAMETER)
        );
        let odd = [3, 0, 0, 0, b'\\', 0, b'P'];
        assert_eq!(ConnectBlock::decode(&odd), Err(Status::INVALID_PARAMETER));
    }

    #[test]
    fn a_name_block_as_bytes() {
        let golden = [4, 0, b'a', 0, b'b', 0];
        assert_eq!(encode_name(&utf16("ab")).unwrap(), golden);
        assert_eq!(decode_name(&golden).unwrap(), utf16("ab"));
        let padded = [golden.as_slice(), &[0; 8]].concat();
        assert_eq!(decode_name(&padded).unwrap(), utf16("ab"));
    }

    #[test]
    fn a_name_block_without_its_name_is_refused() {
        for bad in [&[][..], &[4], &[0, 0], &[4, 0, b'a', 0, b'b'], &[1, 0, 1]] {
            assert_eq!(decode_name(bad), Err(Status::INVALID_PARAMETER), "{bad:?}");
        }
    }
}
