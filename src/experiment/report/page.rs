//! The frame of every page: title, tiles, figures, tables.
//!
//! A page is one file without scripts or anything from elsewhere, so it can
//! be mailed, archived and read without a network.

use super::text::escape;
use serde_json::Value;

const STYLE: &str = "\
:root{color-scheme:light dark;--page:#f5f7fa;--card:#fff;--text:#1f2933;--soft:#52606d;--line:#e4e7eb;--mark:#0072b2}\
@media(prefers-color-scheme:dark){:root{--page:#12181f;--card:#1b232c;--text:#e4e7eb;--soft:#9aa5b1;--line:#323f4b;\
--mark:#4ba3e3}}\
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--text);line-height:1.5;\
font:15px system-ui,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif}\
main{max-width:1160px;margin:0 auto;padding:36px 20px 60px}h1{margin:0;font-size:30px;overflow-wrap:anywhere}\
h2{margin:36px 0 14px;font-size:19px}.soft,figcaption{color:var(--soft)}p{margin:4px 0 0}\
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:14px;margin-top:24px}\
.tile,figure,.card{background:var(--card);border:1px solid var(--line);border-radius:10px}\
.tile{padding:14px 18px}.tile b{display:block;font-size:26px;font-weight:600;line-height:1.3}\
.tile:first-child b{color:var(--mark)}.tile span{font-size:13px;color:var(--soft)}\
.figures{margin-top:18px;display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,500px),1fr));gap:18px}\
figure{margin:0;padding:14px 14px 16px}figure svg{display:block;width:100%;height:auto}\
figcaption{padding:6px 10px 0;font-size:13.5px}.card{padding:6px 18px;overflow-x:auto}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
th,td{padding:7px 14px 7px 0;text-align:left;font-weight:400;border-top:1px solid var(--line);vertical-align:top}\
tr:first-child>*{border-top:0}th{color:var(--soft)}td{overflow-wrap:anywhere}.numbers :is(td,th):not(:first-child)\
{text-align:right}figure h2{margin:2px 10px 10px;font-size:16px}figure table{margin:0 10px 8px;width:calc(100% - 20px)}\
.settings th{width:38%}\
code{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}";

/// What a page shows.
pub(super) struct Page<'a> {
    /// Its title, not escaped.
    pub title: &'a str,
    /// What stands below the title.
    pub overview: String,
    /// The numbers that a reader looks for first, and what each is.
    pub tiles: Vec<(String, String)>,
    /// What a reader must know of them.
    pub notes: Vec<String>,
    pub figures: String,
    pub config: &'a Value,
    pub versions: &'a Value,
}

impl Page<'_> {
    /// The page as HTML. The texts of tiles and figures are HTML already; the others are escaped here.
    pub fn html(&self) -> String {
        let tile =
            |(value, what): &(String, String)| format!("<div class=\"tile\"><b>{value}</b><span>{what}</span></div>\n");
        let note = |text: &String| format!("<p>⚠ {}</p>\n", escape(text));
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n\
             <header><h1>{title}</h1>\n<p class=\"soft\">{overview}</p></header>\n\
             <div class=\"tiles\">\n{tiles}</div>\n{notes}\
             <div class=\"figures\">\n{figures}</div>\n\
             <h2>Configuration</h2>\n{config}\n<h2>Versions</h2>\n{versions}\n</main>\n</body>\n</html>\n",
            title = escape(self.title),
            overview = self.overview,
            tiles = self.tiles.iter().map(tile).collect::<String>(),
            notes = self.notes.iter().map(note).collect::<String>(),
            figures = self.figures,
            config = settings(self.config),
            versions = settings(self.versions),
        )
    }
}

/// A count with its noun.
pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", super::text::integer(count), if count == 1 { one } else { many })
}

/// A table of numbers in a figure: a column for each of `columns`, and rows of a name and a text for each column.
pub(super) fn table(title: &str, columns: &[String], rows: &[(&str, Vec<String>)], caption: &str) -> String {
    let head: String = columns.iter().map(|name| format!("<th scope=\"col\">{name}</th>")).collect();
    let row = |(name, cells): &(&str, Vec<String>)| {
        let cells: String = cells.iter().map(|cell| format!("<td>{cell}</td>")).collect();
        format!("<tr><th scope=\"row\">{name}</th>{cells}</tr>\n")
    };
    format!(
        "<figure><h2>{title}</h2><table class=\"numbers\">\n<tr><td></td>{head}</tr>\n{}</table>\
         <figcaption>{caption}</figcaption></figure>\n",
        rows.iter().map(row).collect::<String>()
    )
}

/// A JSON value as a table of paths and values.
fn settings(value: &Value) -> String {
    let mut rows = Vec::new();
    flatten(String::new(), value, &mut rows);
    let rows = rows.iter().map(|(path, value)| {
        format!(
            "<tr><th scope=\"row\"><code>{}</code></th><td><code>{}</code></td></tr>\n",
            escape(path),
            escape(value)
        )
    });
    format!("<div class=\"card\"><table class=\"settings\">\n{}</table></div>", rows.collect::<String>())
}

/// The leaves of `value`, each with its path: objects are entered, and arrays that hold objects or arrays.
fn flatten(path: String, value: &Value, rows: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                flatten(format!("{path}{dot}{name}"), value, rows);
            }
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            for (at, item) in items.iter().enumerate() {
                flatten(format!("{path}[{at}]"), item, rows);
            }
        }
        Value::String(text) => rows.push((path, text.clone())),
        Value::Array(items) => {
            rows.push((path, items.iter().map(Value::to_string).collect::<Vec<_>>().join(", ")));
        }
        other => rows.push((path, other.to_string())),
    }
}
