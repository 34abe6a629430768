//! Prompts and resources: discovered ones are read here and belong to their upstream.

use proto::{Permission, entry::Entry, resource::kind};

use super::{Listed, Page, Registry};
use crate::{
    caller::Caller,
    error::Error,
    store::{
        entries::{self, Shelf},
        upstreams,
    },
};

impl Registry {
    /// All prompts, or those of one upstream (by name or id).
    pub async fn list_prompts(
        &self,
        caller: &Caller,
        upstream: Option<&str>,
        page: Page,
    ) -> Result<Listed<Entry>, Error> {
        self.list_entries(caller, Shelf::Prompts, upstream, page).await
    }

    /// All resources and templates, or those of one upstream (by name or id).
    pub async fn list_resources(
        &self,
        caller: &Caller,
        upstream: Option<&str>,
        page: Page,
    ) -> Result<Listed<Entry>, Error> {
        self.list_entries(caller, Shelf::Resources, upstream, page).await
    }

    async fn list_entries(
        &self,
        caller: &Caller,
        which: Shelf,
        upstream: Option<&str>,
        page: Page,
    ) -> Result<Listed<Entry>, Error> {
        caller.require(Permission::RegistryRead)?;
        let mut read = self.store.begin_read().await?;
        let revision = read.revision().await?;
        let (after, limit) = (page.after()?, page.limit());
        let connection = read.connection();
        let found = match upstream {
            None => entries::page(connection, which, after, limit).await?,
            Some(name) => {
                let found = upstreams::find(connection, name).await?;
                let missing = || Error::NotFound { kind: kind::UPSTREAM, name: name.to_owned() };
                let id = found.ok_or_else(missing)?.upstream.id;
                entries::page_of_upstream(connection, (which, &id), after, limit).await?
            }
        };
        let items = found.into_iter().map(|stored| stored.entry).collect();
        Ok(page.cut(items, revision, |entry: &Entry| &entry.id))
    }
}
