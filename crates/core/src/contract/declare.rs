//! How a contract is declared: one row a field, from which everything else is made.

/// Declares a contract, a row a field, in the order in which they stand on the wire.
///
/// A row says why the field is collected, what it `holds` and an `example`. Where Pulse is `read` for it, it says as
/// what type, and what a token `needs` for that: the field is then one of `Values` and of `Payload`. What is `sent` is
/// that value, or what the row says of the ping.
///
/// It makes `FIELDS`, `Values` (each value known, or unknown for a named reason), `Payload` (all of them known),
/// `Incomplete`, and the encoder `Ping`.
#[macro_export]
macro_rules! declare_contract {
    (@sent $ping:ident $name:ident) => { &$ping.payload.$name };
    (@sent $ping:ident $name:ident $value:expr) => { &$value };
    (
        |$ping:ident|
        $($name:ident {
            purpose: $purpose:literal,
            holds: $kind:expr,
            example: $example:literal,
            $(read: $type:ty, needs: $needs:ident,)?
            $(sent: $value:expr,)?
        })+
    ) => {
        /// The fields, in the order in which they stand on the wire.
        pub const FIELDS: [$crate::contract::Field; [$(stringify!($name)),+].len()] = [$(
            $crate::contract::Field {
                name: stringify!($name),
                kind: $kind,
                purpose: $purpose,
                example: $example,
            },
        )+];

        /// What was read of Pulse for a ping: each value known, or unknown for a named reason.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Values {
            $($(
                #[doc = concat!("`", stringify!($name), "`: ", $purpose)]
                pub $name: $crate::unknown::Value<$type>,
            )?)+
        }

        /// What of a ping comes from Pulse. It exists only where all of it is known: unknown is not zero and not false.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Payload {
            $($(
                #[doc = concat!("`", stringify!($name), "`: ", $purpose)]
                pub $name: $type,
            )?)+
        }

        /// Values of which at least one is unknown.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Incomplete(Box<Values>);

        impl Values {
            /// The payload, where every value is known.
            ///
            /// # Errors
            /// Where one is not.
            pub fn complete(self) -> Result<Payload, Incomplete> {
                match self {
                    Self { $($($name: Ok::<$type, _>($name),)?)+ } => {
                        Ok(Payload { $($($name: { let known: $type = $name; known },)?)+ })
                    }
                    values => Err(Incomplete(Box::new(values))),
                }
            }

            /// What is unknown, in the order of the contract.
            pub fn unknown(&self) -> impl Iterator<Item = &$crate::unknown::Unknown> {
                [$($(self.$name.as_ref().map(|_: &$type| ()).err(),)?)+].into_iter().flatten()
            }

            /// Every value with its name, and what a token needs to read it, in the order of the contract.
            #[must_use]
            pub fn rows(&self) -> Vec<$crate::contract::ValueRow<'_>> {
                vec![$($($crate::contract::ValueRow {
                    name: stringify!($name),
                    needs: $crate::contract::TokenAccess::$needs,
                    value: self.$name.as_ref().map(|value: &$type| value.to_string()),
                },)?)+]
            }
        }

        impl Incomplete {
            /// What was read.
            #[must_use]
            pub fn values(&self) -> &Values {
                &self.0
            }
        }

        impl From<Payload> for Values {
            fn from(payload: Payload) -> Self {
                Self { $($($name: Ok::<$type, _>(payload.$name),)?)+ }
            }
        }

        /// All that is sent.
        #[derive(Clone, Copy, Debug)]
        pub struct Ping<'a> {
            /// What of it comes from Pulse.
            pub payload: &'a Payload,
            /// Whose it is.
            pub install_id: &'a $crate::identity::InstallId,
            /// Why it is sent.
            pub event: $crate::event::Event,
        }

        impl Ping<'_> {
            /// The fields that are sent, as compact JSON in the order of the contract.
            #[must_use]
            pub fn to_json(&self) -> String {
                let $ping = self;
                let mut json = String::with_capacity(1024);
                $(let value = $crate::contract::FieldValue::to_json(
                    $crate::declare_contract!(@sent $ping $name $($value)?),
                );
                if let Some(value) = value {
                    json.push_str(if json.is_empty() { "{" } else { "," });
                    json.push_str(concat!("\"", stringify!($name), "\":"));
                    json.push_str(&value);
                })+
                json.push('}');
                json
            }
        }
    };
}
