//! Summaries as they lie in memory between two looks: a few dozen bytes in one piece instead of a dozen strings. In: a
//! summary. Out: bytes, and the same summary again. Pure; `kind` packs what its informers keep and unpacks what it
//! decides on.

use std::marker::PhantomData;

use kube_client::store::plain_number;

use super::{
    decide::{Applied, Memory},
    digest::Digest,
    status::StatusKey,
    summary::{Belongs, ConsumerSummary, ProviderSummary},
};

/// A packed `T`.
pub struct Packed<T> {
    bytes: Box<[u8]>,
    of: PhantomData<fn() -> T>,
}

impl<T: Pack> Packed<T> {
    /// Packs.
    pub fn new(value: &T) -> Self {
        let mut out = Vec::with_capacity(128);
        value.write(&mut out);
        Self { bytes: out.into(), of: PhantomData }
    }

    /// The value that was packed.
    pub fn unpack(&self) -> T {
        T::read(&mut Reader(&self.bytes))
    }
}

/// What can be packed. Each type reads exactly what it wrote.
pub trait Pack {
    /// Appends the value.
    fn write(&self, out: &mut Vec<u8>);
    /// Takes the value off the front.
    fn read(from: &mut Reader<'_>) -> Self;
}

/// The bytes that are still to be read. Bytes come from [`Pack::write`] only, so they never run short; if they did, zeros
/// would follow.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }
}

impl Pack for u64 {
    /// Seven bits a byte, the lowest first; the eighth says that more follow.
    fn write(&self, out: &mut Vec<u8>) {
        let mut rest = *self;
        while rest >= 0x80 {
            out.push(rest.to_le_bytes()[0] | 0x80);
            rest >>= 7;
        }
        out.push(rest.to_le_bytes()[0]);
    }

    fn read(from: &mut Reader<'_>) -> Self {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = from.byte();
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
}

impl Pack for i64 {
    /// Small numbers of either sign are short.
    fn write(&self, out: &mut Vec<u8>) {
        ((self << 1) ^ (self >> 63)).cast_unsigned().write(out);
    }

    fn read(from: &mut Reader<'_>) -> Self {
        let value = u64::read(from);
        (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
    }
}

impl Pack for bool {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn read(from: &mut Reader<'_>) -> Self {
        from.byte() != 0
    }
}

/// Texts come in three forms: a number, a UUID, anything else.
const NUMBER: u8 = 0;
const UUID: u8 = 1;
const TEXT: u8 = 2;

/// Whether it is written so: there are several forms.
fn written(uuid: &uuid::Uuid, text: &str) -> bool {
    *uuid.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()) == *text
}

impl Pack for String {
    fn write(&self, out: &mut Vec<u8>) {
        if let Some(number) = plain_number(self) {
            out.push(NUMBER);
            number.write(out);
        } else if let Some(uuid) = uuid::Uuid::try_parse(self).ok().filter(|uuid| written(uuid, self)) {
            out.push(UUID);
            out.extend_from_slice(uuid.as_bytes());
        } else {
            out.push(TEXT);
            (self.len() as u64).write(out);
            out.extend_from_slice(self.as_bytes());
        }
    }

    fn read(from: &mut Reader<'_>) -> Self {
        match from.byte() {
            NUMBER => u64::read(from).to_string(),
            UUID => uuid::Uuid::from_slice(from.take(16)).unwrap_or_default().to_string(),
            _ => {
                let len = usize::try_from(u64::read(from)).unwrap_or(usize::MAX);
                String::from_utf8_lossy(from.take(len)).into_owned()
            }
        }
    }
}

impl Pack for Digest {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.bytes());
    }

    fn read(from: &mut Reader<'_>) -> Self {
        let mut bytes = [0; 16];
        let taken = from.take(bytes.len());
        bytes[..taken.len()].copy_from_slice(taken);
        Self::from_bytes(bytes)
    }
}

impl<T: Pack> Pack for Option<T> {
    fn write(&self, out: &mut Vec<u8>) {
        self.is_some().write(out);
        if let Some(value) = self {
            value.write(out);
        }
    }

    fn read(from: &mut Reader<'_>) -> Self {
        bool::read(from).then(|| T::read(from))
    }
}

impl<A: Pack, B: Pack> Pack for (A, B) {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
        self.1.write(out);
    }

    fn read(from: &mut Reader<'_>) -> Self {
        (A::read(from), B::read(from))
    }
}

impl<T: Pack> Pack for Box<[T]> {
    fn write(&self, out: &mut Vec<u8>) {
        (self.len() as u64).write(out);
        self.iter().for_each(|value| value.write(out));
    }

    fn read(from: &mut Reader<'_>) -> Self {
        (0..u64::read(from)).map(|_| T::read(from)).collect()
    }
}

impl Pack for Box<str> {
    fn write(&self, out: &mut Vec<u8>) {
        self.to_string().write(out);
    }

    fn read(from: &mut Reader<'_>) -> Self {
        String::read(from).into()
    }
}

impl Pack for u16 {
    fn write(&self, out: &mut Vec<u8>) {
        u64::from(*self).write(out);
    }

    fn read(from: &mut Reader<'_>) -> Self {
        Self::try_from(u64::read(from)).unwrap_or(Self::MAX)
    }
}

impl Pack for u32 {
    fn write(&self, out: &mut Vec<u8>) {
        u64::from(*self).write(out);
    }

    fn read(from: &mut Reader<'_>) -> Self {
        Self::try_from(u64::read(from)).unwrap_or(Self::MAX)
    }
}

/// All members, in the order of their declaration.
macro_rules! pack_members {
    ($kind:ident { $($member:ident),+ $(,)? }) => {
        impl Pack for $kind {
            fn write(&self, out: &mut Vec<u8>) {
                let Self { $($member),+ } = self;
                $($member.write(out);)+
            }

            fn read(from: &mut Reader<'_>) -> Self {
                $(let $member = Pack::read(from);)+
                Self { $($member),+ }
            }
        }
    };
}

pack_members!(StatusKey { digest, generations });
pack_members!(ConsumerSummary {
    uid,
    revision,
    generation,
    deleting,
    finalizer,
    other_finalizers,
    provider_namespace,
    desired,
    status,
    references,
});
pack_members!(ProviderSummary { uid, revision, generation, deleting, belongs, owned, needs_migration, status });
pack_members!(Applied { desired, result, uid, provider_generation, consumer_generation });
pack_members!(Memory { applied, status, reverts });

impl Pack for Belongs {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ours { consumer_uid } => {
                out.push(0);
                consumer_uid.write(out);
            }
            Self::Other(whose) => {
                out.push(1);
                whose.write(out);
            }
            Self::Foreign => out.push(2),
        }
    }

    fn read(from: &mut Reader<'_>) -> Self {
        match from.byte() {
            0 => Self::Ours { consumer_uid: String::read(from) },
            1 => Self::Other(String::read(from)),
            _ => Self::Foreign,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            any::<u64>().prop_map(|number| number.to_string()),
            any::<[u8; 16]>().prop_map(|bytes| uuid::Uuid::from_bytes(bytes).to_string()),
            Just("007".to_owned()),
            Just("0".to_owned()),
            Just("+1".to_owned()),
            Just("7EB1861B-4EF6-4337-9835-20DD04F899A1".to_owned()),
        ]
    }

    fn digests() -> impl Strategy<Value = Digest> {
        any::<[u8; 16]>().prop_map(Digest::from_bytes)
    }

    fn statuses() -> impl Strategy<Value = StatusKey> {
        (proptest::option::of(digests()), any::<Vec<i64>>())
            .prop_map(|(digest, generations)| StatusKey { digest, generations: generations.into() })
    }

    fn owners() -> impl Strategy<Value = Belongs> {
        prop_oneof![
            texts().prop_map(|consumer_uid| Belongs::Ours { consumer_uid }),
            texts().prop_map(Belongs::Other),
            Just(Belongs::Foreign),
        ]
    }

    proptest! {
        #[test]
        fn consumers_come_out_as_they_went_in(
            (uid, revision) in (texts(), texts()), generation in any::<i64>(), flags in any::<[bool; 3]>(),
            provider_namespace in proptest::option::of(texts()), desired in digests(), status in statuses(),
            references in any::<Vec<(u16, String)>>(),
        ) {
            let summary = ConsumerSummary {
                uid, revision, generation, deleting: flags[0], finalizer: flags[1], other_finalizers: flags[2],
                provider_namespace, desired, status,
                references: references.into_iter().map(|(claim, name)| (claim, name.into())).collect(),
            };
            prop_assert_eq!(&Packed::new(&summary).unpack(), &summary);
        }

        #[test]
        fn copies_come_out_as_they_went_in(
            (uid, revision) in (texts(), texts()), generation in any::<i64>(), flags in any::<[bool; 2]>(),
            belongs in owners(), owned in proptest::option::of(digests()), status in statuses(),
        ) {
            let summary = ProviderSummary {
                uid, revision, generation, deleting: flags[0], belongs, owned, needs_migration: flags[1], status,
            };
            prop_assert_eq!(&Packed::new(&summary).unpack(), &summary);
        }

        #[test]
        fn memories_come_out_as_they_went_in(
            applied in proptest::option::of((digests(), proptest::option::of(digests()), texts(), any::<(i64, i64)>())),
            status in proptest::option::of((statuses(), statuses())), reverts in any::<u32>(),
        ) {
            let applied = applied.map(|(desired, result, uid, (provider_generation, consumer_generation))| Applied {
                desired, result, uid, provider_generation, consumer_generation,
            });
            let memory = Memory { applied, status, reverts };
            prop_assert_eq!(&Packed::new(&memory).unpack(), &memory);
        }
    }

    #[test]
    fn what_api_servers_write_is_short() {
        let uid = "7eb1861b-4ef6-4337-9835-20dd04f899a1".to_owned();
        let status = StatusKey { digest: Some(Digest::of_bytes(b"x")), generations: Box::new([1, 1]) };
        let summary = ConsumerSummary {
            uid,
            revision: "123456".into(),
            generation: 1,
            deleting: false,
            finalizer: true,
            other_finalizers: false,
            provider_namespace: Some("kube-bind-abcde-team".into()),
            desired: Digest::of_bytes(b"y"),
            status,
            references: Box::new([]),
        };
        assert!(Packed::new(&summary).bytes.len() < 96, "{}", Packed::new(&summary).bytes.len());
    }
}
