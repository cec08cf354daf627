//! The table, as Markdown.

use super::figure::Figures;
use super::goal::{GOALS, Goal, Row};

/// Lines of cells, columns padded so that it can be read as it is.
pub fn markdown(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells = cells.zip(&widths).map(|(cell, &width)| format!(" {cell:width$} |"));
        format!("|{}\n", cells.collect::<String>())
    };
    let mut text = line(&mut head.iter().copied());
    text += &format!("|{}\n", widths.iter().map(|width| format!("{}|", "-".repeat(width + 2))).collect::<String>());
    for row in rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}

pub fn goals(rows: &[Row]) -> String {
    let cells = |row: &Row| {
        let note = one_line(&row.note);
        // A note says why the figure is missing, or that beside it.
        let (freqcap, beside) = match (row.freqcap, note.is_empty()) {
            (_, true) => (row.freqcap_text.clone(), row.peer_text.clone()),
            (Some(_), false) => (row.freqcap_text.clone(), note),
            (None, false) => (note, row.peer_text.clone()),
        };
        vec![
            row.what.clone(),
            row.goal.clone(),
            freqcap,
            beside,
            row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            row.reached.map_or("", |reached| if reached { "yes" } else { "no" }).to_owned(),
            row.memory.map_or_else(String::new, |memory| format!("{} MiB", memory >> 20)),
            row.others.map_or_else(String::new, |others| format!("{:.0} %", others * 100.0)),
        ]
    };
    let rows: Vec<_> = rows.iter().map(cells).collect();
    markdown(&["what", "goal", "freqcap", "beside", "ratio", "reached", "memory", "CPU of others"], &rows)
}

/// An error fits its cell.
fn one_line(text: &str) -> String {
    const LENGTH_MAX: usize = 160;
    text.replace('|', "/").split_whitespace().collect::<Vec<_>>().join(" ").chars().take(LENGTH_MAX).collect()
}

/// Two binaries side by side, all that both gave.
pub fn comparison(one: &Figures, other: &Figures) -> String {
    let mut rows = Vec::new();
    for name in one.names() {
        let Some((a, b)) = one.get(name).zip(other.get(name)) else { continue };
        let is_own = |goal: &&Goal| goal.figure == name;
        let is_beside = |goal: &&Goal| goal.peer.is_some_and(|(_, peer)| peer == name);
        let own = GOALS.iter().find(is_own);
        let unit = own.or_else(|| GOALS.iter().find(is_beside)).map(|goal| goal.unit);
        let text = |value: f64| unit.map_or_else(|| format!("{value:.3}"), |unit| unit.text(value));
        let times_better = match own {
            Some(goal) if goal.unit.more_is_better() => format!("{:.2}", a / b),
            Some(_) if a > 0.0 => format!("{:.2}", b / a),
            _ => String::new(),
        };
        let cpu = |figures: &Figures| figures.cpu_us(name).map_or_else(String::new, |us| format!("{us:.2}"));
        let memory =
            |figures: &Figures| figures.memory(name).map_or_else(String::new, |memory| format!("{}", memory >> 20));
        rows.push(vec![
            name.to_owned(),
            text(a),
            text(b),
            times_better,
            format!("{} / {}", cpu(one), cpu(other)),
            format!("{} / {}", memory(one), memory(other)),
        ]);
    }
    markdown(&["figure", "one", "other", "one is x times better", "CPU µs each", "memory MiB"], &rows)
}

/// Every figure by its name.
pub fn figures(figures: &Figures) -> String {
    let row =
        |name: &str| vec![name.to_owned(), figures.get(name).map_or_else(String::new, |value| format!("{value:.1}"))];
    markdown(&["figure", "value"], &figures.names().map(row).collect::<Vec<_>>())
}
