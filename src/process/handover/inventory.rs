//! The list of sockets that a running server passes to its successor, as JSON:
//!
//! ```json
//! {"version": 2, "items": [
//!     {"what": {"endpoint": {"service": "echo", "endpoint": "tcp://[::]:7", "keeper": "nobody"}},
//!      "sockets": 4},
//!     {"what": "offer", "sockets": 1}
//! ]}
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::listen::{Inherited, Keeper};
use crate::net::endpoint::Endpoint;
use crate::service::Service;

/// The version of the whole protocol. Each side refuses any other.
pub(super) const VERSION: u32 = 2;
/// The most sockets in all: the kernel's default limit of descriptors of a process (fs.nr_open,
/// proc_sys_fs(5)).
const MAX_SOCKETS: usize = 1 << 20;

/// The list of all passed sockets, in the order in which the descriptors follow.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Inventory {
    items: Vec<Item>,
}

/// Sockets with one purpose.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Item {
    /// The purpose of the sockets.
    pub what: What,
    /// Their number: at least one for an endpoint, exactly one for any other purpose.
    pub sockets: usize,
}

/// The purpose of a socket.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// Serving clients.
    Endpoint {
        /// With this service.
        #[serde(with = "as_text")]
        service: Service,
        /// At this endpoint, as it was configured.
        #[serde(with = "as_text")]
        endpoint: Endpoint,
        /// The other process that keeps its sockets open.
        #[serde(with = "KeeperName")]
        keeper: Keeper,
    },
    /// Serving the admin port.
    Admin,
    /// Waiting for the next successor.
    Offer,
}

/// The names of [`Keeper`]s in the list.
#[derive(Deserialize, Serialize)]
#[serde(remote = "Keeper", rename_all = "snake_case")]
enum KeeperName {
    #[serde(rename = "nobody")]
    Predecessor,
    ServiceManager,
}

impl Inventory {
    /// The inventory of these items.
    ///
    /// # Errors
    /// [`InventoryError`] when an item has a number of sockets that [`Item::sockets`] rules out, or
    /// the total is too large.
    pub(crate) fn new(items: Vec<Item>) -> Result<Self, InventoryError> {
        let mut all = 0_usize;
        for Item { what, sockets } in &items {
            let fits = match what {
                What::Endpoint { .. } => *sockets >= 1,
                What::Admin | What::Offer => *sockets == 1,
            };
            if !fits {
                return Err(InventoryError::Count(*sockets));
            }
            all = all.saturating_add(*sockets);
        }
        if all > MAX_SOCKETS {
            return Err(InventoryError::TooMany);
        }
        Ok(Self { items })
    }

    /// Reads what [`Inventory::to_json`] writes.
    ///
    /// # Errors
    /// [`InventoryError`] names the mistake.
    pub fn parse(json: &[u8]) -> Result<Self, InventoryError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        #[derive(Deserialize)]
        struct Items {
            items: Vec<Item>,
        }
        // The version is checked first, because the rest may differ in another version.
        let Version { version } = serde_json::from_slice(json).map_err(InventoryError::Syntax)?;
        if version != VERSION {
            return Err(InventoryError::Version(version));
        }
        let Items { items } = serde_json::from_slice(json).map_err(InventoryError::Syntax)?;
        Self::new(items)
    }

    /// The inventory as JSON.
    pub fn to_json(&self) -> String {
        serde_json::json!({ "version": VERSION, "items": self.items }).to_string()
    }

    /// The number of sockets that follow.
    pub fn sockets(&self) -> usize {
        self.items.iter().map(|item| item.sockets).sum()
    }

    /// The purpose of the sockets.
    pub(crate) fn into_items(self) -> Vec<Item> {
        self.items
    }
}

impl Item {
    /// One socket that does not belong to an endpoint.
    pub(crate) fn one(what: What) -> Self {
        Self { what, sockets: 1 }
    }
}

impl From<&Inherited> for Item {
    fn from(endpoint: &Inherited) -> Self {
        Self {
            what: What::Endpoint {
                service: endpoint.service,
                endpoint: endpoint.configured.clone(),
                keeper: endpoint.keeper,
            },
            sockets: endpoint.sockets.len(),
        }
    }
}

/// Why an inventory is invalid.
#[derive(Debug)]
pub enum InventoryError {
    /// It is not JSON of this form.
    Syntax(serde_json::Error),
    /// It is of another version.
    Version(u32),
    /// An item can't have this number of sockets.
    Count(usize),
    /// There are more sockets than a process can have.
    TooMany,
}

impl fmt::Display for InventoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(error) => write!(f, "not a list of sockets: {error}"),
            Self::Version(version) => write!(
                f,
                "it speaks version {version} of the hand-over, and this one version {VERSION}"
            ),
            Self::Count(sockets) => write!(f, "no item of its list has {sockets} sockets"),
            Self::TooMany => write!(f, "it lists more than {MAX_SOCKETS} sockets"),
        }
    }
}

impl std::error::Error for InventoryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Syntax(error) => Some(error),
            Self::Version(_) | Self::Count(_) | Self::TooMany => None,
        }
    }
}

/// Serializes a value as its text form.
mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        value: &impl Display,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D, T>(deserializer: D) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        T: FromStr<Err: Display>,
    {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(sockets: usize) -> Item {
        Item {
            what: What::Endpoint {
                service: Service::Discard,
                endpoint: "tcp://[::]:9".parse().unwrap(),
                keeper: Keeper::ServiceManager,
            },
            sockets,
        }
    }

    fn refusal(json: &str) -> String {
        Inventory::parse(json.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn an_inventory_reads_as_it_was_written() {
        let items = vec![endpoint(4), Item::one(What::Offer), Item::one(What::Admin)];
        let inventory = Inventory::new(items.clone()).unwrap();
        let json = inventory.to_json();
        assert_eq!(Inventory::parse(json.as_bytes()).unwrap(), inventory);
        assert_eq!(inventory.sockets(), 6);
        assert_eq!(inventory.into_items(), items);
    }

    #[test]
    fn the_form_of_version_2_stays() {
        let json = r#"{"version": 2, "items": [{"what": {"endpoint": {"service": "discard",
            "endpoint": "tcp://[::]:9", "keeper": "service_manager"}}, "sockets": 4}]}"#;
        let inventory = Inventory::parse(json.as_bytes()).unwrap();
        assert_eq!(inventory.into_items(), [endpoint(4)]);
    }

    #[test]
    fn another_version_is_told_whatever_else_it_says() {
        let refusal = refusal(r#"{"version": 3, "items": "new"}"#);
        assert!(refusal.contains("version 3"), "{refusal}");
    }

    #[test]
    fn numbers_that_can_not_be_are_refused() {
        let most = usize::MAX;
        for items in [
            vec![endpoint(0)],
            vec![endpoint(MAX_SOCKETS + 1)],
            vec![endpoint(most), endpoint(most)],
            vec![Item {
                what: What::Admin,
                sockets: 2,
            }],
        ] {
            assert!(Inventory::new(items).is_err());
        }
        assert!(Inventory::new(vec![endpoint(MAX_SOCKETS)]).is_ok());
    }

    #[test]
    fn errors_name_the_mistake() {
        let json = r#"{"version": 2, "items": [{"what": {"endpoint": {"service": "chat",
            "endpoint": "tcp://[::]:9", "keeper": "nobody"}}, "sockets": 1}]}"#;
        assert!(refusal(json).contains("`chat` is not a service"));
        assert!(refusal("").starts_with("not a list of sockets"));
    }
}
