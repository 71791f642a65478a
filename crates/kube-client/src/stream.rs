//! Cuts what a server sends into objects while it arrives, so that neither a page of a list nor a line of a watch is ever
//! in memory as a whole and decoded. In: chunks of bytes. Out: the bytes of one watch line, or of one item of a list. Used
//! by [`crate::api`].

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream::BoxStream};

/// Chunks as a connection brings them.
pub(crate) type Chunks = BoxStream<'static, Result<Bytes, kube::Error>>;

/// Cuts a byte stream into lines of any length.
pub(crate) struct Lines {
    data: Chunks,
    buffer: BytesMut,
    scanned: usize,
    ended: bool,
}

impl Lines {
    /// Nothing read yet.
    pub(crate) fn new(data: Chunks) -> Self {
        Self { data, buffer: BytesMut::new(), scanned: 0, ended: false }
    }

    /// The next line that is not blank, a part of what arrived; half a line at the end is dropped.
    pub(crate) async fn next(&mut self) -> Option<Result<BytesMut, kube::Error>> {
        loop {
            if let Some(at) = self.buffer[self.scanned..].iter().position(|b| *b == b'\n') {
                let mut line = self.buffer.split_to(self.scanned + at + 1);
                line.truncate(self.scanned + at);
                self.scanned = 0;
                if self.buffer.is_empty() {
                    // A watch waits for long: not with the room of its longest line.
                    self.buffer = BytesMut::new();
                }
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return Some(Ok(line));
            }
            self.scanned = self.buffer.len();
            if self.ended {
                return None;
            }
            match self.data.next().await {
                Some(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
                Some(Err(error)) => {
                    self.ended = true;
                    return Some(Err(error));
                }
                None => self.ended = true,
            }
        }
    }
}

/// A part of a list.
pub(crate) enum Piece {
    /// One element of `items`.
    Item(Vec<u8>),
    /// The list without them; nothing follows.
    Rest(Vec<u8>),
}

/// Cuts the answer to a list into its pieces.
pub(crate) struct Pieces {
    data: Chunks,
    items: Items,
}

impl Pieces {
    /// Nothing read yet.
    pub(crate) fn new(data: Chunks) -> Self {
        Self { data, items: Items::default() }
    }

    /// The next piece. Whether the answer was complete is seen when the rest is decoded.
    pub(crate) async fn next(&mut self) -> Result<Piece, kube::Error> {
        loop {
            if let Some(item) = self.items.pop() {
                return Ok(Piece::Item(item));
            }
            match self.data.next().await {
                Some(chunk) => self.items.push(&chunk?),
                None => return Ok(Piece::Rest(std::mem::take(&mut self.items.rest))),
            }
        }
    }
}

/// Cuts the JSON text of a list into the elements of its `items`, whatever the order of its members.
#[derive(Debug, Default)]
struct Items {
    /// Brackets that are open.
    depth: usize,
    /// In a string, and after a backslash in it.
    string: bool,
    escaped: bool,
    /// In the array `items`.
    inside: bool,
    /// The element under way.
    current: Vec<u8>,
    /// The list without the elements.
    rest: Vec<u8>,
    ready: VecDeque<Vec<u8>>,
}

/// Depth of the elements of `items`: the list and the array are open.
const ELEMENT: usize = 2;

impl Items {
    /// Takes in a chunk; complete elements are then [`Items::pop`]ped.
    fn push(&mut self, chunk: &[u8]) {
        let mut begin = 0;
        let mut at = 0;
        while let Some(&byte) = chunk.get(at) {
            at += 1;
            if self.string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.string = false,
                    _ => at += plain(&chunk[at..]),
                }
                continue;
            }
            match byte {
                b'"' => self.string = true,
                b'{' | b'[' => {
                    if byte == b'[' && self.depth + 1 == ELEMENT {
                        self.keep(&chunk[begin..at]);
                        begin = at;
                        self.inside = ends_with_key(&self.rest);
                    }
                    self.depth += 1;
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.inside && self.depth == ELEMENT {
                        self.current.extend_from_slice(&chunk[begin..at]);
                        begin = at;
                        // The next one will be about as long.
                        let next = Vec::with_capacity(self.current.len());
                        self.ready.push_back(std::mem::replace(&mut self.current, next));
                    } else if self.inside && self.depth < ELEMENT {
                        self.inside = false;
                        self.current.clear();
                        begin = at - 1;
                    }
                }
                b',' if self.inside && self.depth == ELEMENT => {
                    // Between elements; what is no object or array (null) is no element.
                    self.current.clear();
                    begin = at;
                }
                _ => {}
            }
        }
        self.keep(&chunk[begin..]);
    }

    /// The next complete element.
    fn pop(&mut self) -> Option<Vec<u8>> {
        self.ready.pop_front()
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.inside { &mut self.current } else { &mut self.rest }.extend_from_slice(bytes);
    }
}

/// Bytes of a string before the next that means something.
fn plain(bytes: &[u8]) -> usize {
    bytes.iter().position(|b| matches!(b, b'"' | b'\\')).unwrap_or(bytes.len())
}

/// Whether `"items": [` has just been read; a string before a colon is a key.
fn ends_with_key(rest: &[u8]) -> bool {
    let trim = |bytes: &[u8], last: u8| -> Option<usize> {
        let bytes = bytes.trim_ascii_end();
        (bytes.last() == Some(&last)).then(|| bytes.len() - 1)
    };
    trim(rest, b'[')
        .and_then(|end| trim(&rest[..end], b':'))
        .is_some_and(|end| rest[..end].trim_ascii_end().ends_with(b"\"items\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_across_chunks_and_no_half_line_at_the_end() {
        let chunks: Vec<Result<Bytes, kube::Error>> = vec![Ok("{\"a\":1}\n{\"b".into()), Ok("\":2}\n\n{\"half".into())];
        let mut lines = Lines::new(futures::stream::iter(chunks).boxed());
        assert_eq!(&lines.next().await.unwrap().unwrap()[..], b"{\"a\":1}");
        assert_eq!(&lines.next().await.unwrap().unwrap()[..], b"{\"b\":2}");
        assert!(lines.next().await.is_none());
    }

    fn cut(text: &str, size: usize) -> (Vec<String>, String) {
        let mut items = Items::default();
        let mut found = Vec::new();
        for chunk in text.as_bytes().chunks(size) {
            items.push(chunk);
            while let Some(item) = items.pop() {
                found.push(String::from_utf8(item).unwrap().trim().to_owned());
            }
        }
        (found, String::from_utf8(items.rest.clone()).unwrap())
    }

    #[test]
    fn items_come_out_whole_however_they_are_chunked() {
        let texts = [
            (
                r#"{"apiVersion":"v1","items":[{"a":"]},\"{"},{"b":[1,{"items":[2]}]}],"kind":"L","metadata":{"x":"1"}}"#,
                2,
            ),
            (
                r#"{"kind":"L","metadata":{"items":[3],"y":{"items":["no"]}},"items" : [ {"a":"\\"} , null, {"b":[[]]} ]}"#,
                2,
            ),
            (r#"{"metadata":{},"items":[]}"#, 0),
            (r#"{"metadata":{},"items":null}"#, 0),
            (r#"{"metadata":{"z":"items"},"other":[{"c":1}]}"#, 0),
        ];
        for (text, count) in texts {
            let whole: serde_json::Value = serde_json::from_str(text).unwrap();
            for size in 1..text.len() + 1 {
                let (found, rest) = cut(text, size);
                assert_eq!(found.len(), count, "{text} in chunks of {size}: {found:?}");
                let expected: Vec<&serde_json::Value> =
                    whole["items"].as_array().into_iter().flatten().filter(|v| !v.is_null()).collect();
                let decoded: Vec<serde_json::Value> = found.iter().map(|f| serde_json::from_str(f).unwrap()).collect();
                assert_eq!(decoded.iter().collect::<Vec<_>>(), expected, "{text} in chunks of {size}");
                let rest: serde_json::Value = serde_json::from_str(&rest).unwrap();
                assert_eq!(rest["metadata"], whole["metadata"], "{text} in chunks of {size}");
            }
        }
    }
}
