//! The configuration that changes are counted and timed with.

use proto::{
    Era, Position, Secret,
    resource::{Key, KeyResource, Resource, ToolResource, ToolTarget, UpstreamResource},
    upstream::{CatalogScope, Transport},
};

/// One upstream with so many tools, and a key for sessions.
pub fn resources(tools: usize) -> anyhow::Result<Vec<Resource>> {
    let upstream = Resource::Upstream(UpstreamResource {
        id: "u1".to_owned(),
        name: "weather".parse()?,
        transport: Transport::Http { url: "http://127.0.0.1:1/mcp".parse()? },
        credential_id: None,
        catalog_scope: CatalogScope::Shared,
        era: Some(Era::Legacy),
        protocol_version: "2025-11-25".to_owned(),
        instructions: String::new(),
        disabled: false,
        capabilities: r#"{"tools":{}}"#.to_owned(),
    });
    let key = Resource::Key(KeyResource {
        id: "k1".to_owned(),
        key: Key::Session(Secret::new([7; 32])),
        create_time_ms: 1,
    });
    Ok([upstream, key].into_iter().chain((0..tools).map(|number| tool(number, ""))).collect())
}

/// The tool with this number; its description ends with `more`.
pub fn tool(number: usize, more: &str) -> Resource {
    let original = format!("get_forecast_{number}");
    let definition = format!(
        r#"{{"name":"{original}","title":"Forecast {number}","description":"Tells the weather of the next days in a city, with wind and rain.{more}","inputSchema":{{"type":"object","properties":{{"city":{{"type":"string","description":"Name of the city"}},"unit":{{"type":"string","enum":["C","F"]}},"days":{{"type":"integer","minimum":1,"maximum":14}}}},"required":["city"]}},"annotations":{{"readOnlyHint":true}}}}"#
    );
    Resource::Tool(ToolResource {
        id: format!("t{number}"),
        name: format!("weather-{original}"),
        target: ToolTarget::Upstream { upstream_id: "u1".to_owned(), original_name: original },
        definition,
        needs_client_capabilities: Vec::new(),
        aliases: Vec::new(),
    })
}

/// Where that configuration stands.
pub fn position() -> Position {
    Position { store_epoch: "e".to_owned(), revision: 1, ..Position::default() }
}
