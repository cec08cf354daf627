//! Rows out of damaged tables: which are taken, and which are told.

use super::csv::{CsvRows, ROW_MAX, RowError};
use proptest::prelude::*;
use std::io::{BufReader, Read};

type Told = (u64, Result<Vec<String>, RowError>);

/// Every line after the header, with its number.
fn read(text: impl AsRef<[u8]>) -> Vec<Told> {
    read_by(text.as_ref(), 64 << 10)
}

fn read_by(text: &[u8], piece: usize) -> Vec<Told> {
    let mut rows = CsvRows::new(BufReader::with_capacity(piece, text), 0);
    let mut told = Vec::new();
    assert!(rows.next_row().unwrap().unwrap().row.is_ok(), "no header");
    while let Some(line) = rows.next_row().unwrap() {
        let cells =
            |row: &super::csv::Row| row.cells().map(|cell| String::from_utf8_lossy(cell).into_owned()).collect();
        told.push((line.number, line.row.map(cells)));
    }
    told
}

fn row(cells: &str) -> Result<Vec<String>, RowError> {
    Ok(cells.split('|').map(str::to_owned).collect())
}

#[test]
fn quoted_cells_may_hold_separators_quotes_and_line_ends() {
    for (text, rows) in [
        ("a,b,c\n1,2,3\n4,5,6\n", vec![(2, row("1|2|3")), (3, row("4|5|6"))]),
        ("a,b,c\r\n1,2,3\r\n\r\n4,5,6", vec![(2, row("1|2|3")), (4, row("4|5|6"))]),
        ("a,b,c\r1,2,3\r4,5,6\r", vec![(2, row("1|2|3")), (3, row("4|5|6"))]),
        ("a,b,c\n\"1\",\"2,2\",\"say \"\"3\"\"\"\n", vec![(2, row("1|2,2|say \"3\""))]),
        ("a,b,c\n1, \"2,2\" ,3\n", vec![(2, row("1|2,2|3"))]),
        ("a,b,c\n1,\"2\n2\",3\n4,5,6\n", vec![(2, row("1|2\n2|3")), (4, row("4|5|6"))]),
        ("a,b,c\n\"1\n\n1\",2,3\n4,5,6\n", vec![(2, row("1\n\n1|2|3")), (5, row("4|5|6"))]),
        ("a,b,c\n1,2,\"3\r\n3\"\r\n4,5,6\n", vec![(2, row("1|2|3\r\n3")), (4, row("4|5|6"))]),
        ("a,b,c\n1,2,\n,,3\n", vec![(2, row("1|2|")), (3, row("||3"))]),
        ("a,b,c\n1,2,5\" screen\n", vec![(2, row("1|2|5\" screen"))]),
        ("\u{feff}a,b,c\n\u{feff}1,2,3\n \u{feff}\n", vec![(2, row("1|2|3"))]),
        ("a,b,c\n", vec![]),
    ] {
        for piece in [1, 2, 7, 1_000] {
            assert_eq!(read_by(text.as_bytes(), piece), rows, "{text:?} by {piece}");
        }
    }
}

#[test]
fn separators_at_the_end_of_a_line_do_no_harm_and_cells_without_a_column_do() {
    let text = "a,b\n1,2,\n3,4, ,\t,\n5,6,7\n8\n";
    let wrong = RowError::TooManyCells { cells: 3, columns: 2 };
    assert_eq!(read(text), [(2, row("1|2")), (3, row("3|4")), (4, Err(wrong)), (5, row("8"))]);
}

#[test]
fn a_quote_that_is_never_closed_costs_its_own_line() {
    let lines = |stray: &str| {
        let row = |n: u32| format!("u{n},7,{},x\n", 1_000 + n);
        format!("user,da,ts,ua\n{}{stray}\n{}", row(1), (2..9).map(row).collect::<String>())
    };
    for stray in ["u0,7,1000,\"x", "\"u0,7,1000,x", "u0,\"7,1000,x", "u0,\"7,1000,\"\"x", "u0,7,\"\"\"1000,x", "\""] {
        let told = read(lines(stray));
        assert_eq!(told.len(), 9, "{stray}");
        for (number, row) in told {
            assert_eq!(row.is_err(), number == 3, "{stray}: {number} {row:?}");
        }
    }
}

#[test]
fn what_stands_behind_a_closing_quote_costs_its_own_line() {
    let told = read("a,b,c\n1,\"2\"x,3\n4,5,6\n7,\"8\n8\"x,9\n1,2,3\n");
    let remnant = RowError::Remnant { line: 4 };
    assert_eq!(
        told,
        [
            (2, Err(RowError::BehindQuote)),
            (3, row("4|5|6")),
            (4, Err(RowError::BehindQuote)),
            (5, Err(remnant)),
            (6, row("1|2|3"))
        ]
    );
}

#[test]
fn no_row_is_made_of_two() {
    // The second quote is not the end of the first one's cell, though it could be.
    let told = read("user,da,ua,ts\nu1,7,\"x,1001\nu2,7,x\",1002\nu3,7,x,1003\n");
    assert_eq!(told, [(2, Err(RowError::Unclosed)), (3, Err(RowError::Remnant { line: 2 })), (4, row("u3|7|x|1003"))]);
    // Nor are two cells one.
    let told = read("user,da,ua,ts\nu1,\"7,x,1001\"\nu2,\"7\",\"x\",1002\n");
    assert_eq!(told, [(2, Err(RowError::Ambiguous)), (3, row("u2|7|x|1002"))]);
    // What is left of a long text in quotes is no row.
    let told = read("user,da,ua,ts\nu1,7,\"a,b,c,d\ne,f,g\",1001\nu2,7,x,1002\n");
    assert_eq!(told, [(2, Err(RowError::Unclosed)), (3, Err(RowError::Remnant { line: 2 })), (4, row("u2|7|x|1002"))]);
}

#[test]
fn a_row_that_is_too_long_costs_its_own_lines() {
    let long = "x".repeat(ROW_MAX + 1);
    let told = read(format!("a,b\n1,{long}\n3,4\n5,\"{long}\n7,8\n9,\"{long}\"\n1,2"));
    let long = Err(RowError::TooLong);
    assert_eq!(
        told,
        [(2, long.clone()), (3, row("3|4")), (4, long.clone()), (5, row("7|8")), (6, long), (7, row("1|2"))]
    );
}

#[test]
fn an_error_comes_after_the_lines_that_arrived_whole() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("torn"))
        }
    }
    let text = b"a,b\n1,2\n3,\"4\n5,6\n7,8".chain(Broken);
    let mut rows = CsvRows::new(BufReader::new(text), 0);
    let mut taken = Vec::new();
    let error = loop {
        match rows.next_row() {
            Ok(line) => taken.push(line.map(|line| (line.number, line.row.is_ok())).unwrap()),
            Err(why) => break why,
        }
    };
    assert_eq!((taken, error.to_string()), (vec![(1, true), (2, true), (3, false), (4, true)], "torn".to_owned()));
}

#[test]
fn many_open_quotes_are_read_in_one_pass() {
    // Each of these rows could be followed by all the others.
    for (header, line) in [("a,b,c,d,e", "a\",b,\"c\n"), ("a,b", "\"x\n"), ("a,b,c", "1,2,\"\n"), ("a,b", "\"\"\"\n")] {
        let text = format!("{header}\n{}", line.repeat(100_000));
        let started = std::time::Instant::now();
        assert!(read(text).len() >= 50_000);
        assert!(started.elapsed().as_secs() < 20, "{line:?} took {:?}", started.elapsed());
    }
}

/// A table whose rows are known by their user, with text in some cells that needs quotes.
fn any_table() -> impl Strategy<Value = Vec<[String; 5]>> {
    let text =
        prop_oneof![Just("x"), Just(""), Just("a, b"), Just("say \"a\""), Just("two\nlines"), Just("a,b,c,d,e,f\nx")];
    prop::collection::vec((text, any::<bool>()), 1..12).prop_map(|rows| {
        let row = |(n, (text, _)): (usize, (&str, bool))| {
            [format!("u{n}"), format!("d{n}"), text.to_owned(), (1_000 + n).to_string(), format!("i{n}")]
        };
        rows.into_iter().enumerate().map(row).collect()
    })
}

/// The text of a row's cells, wherever one ends and the next begins.
fn without_bounds(cells: &[String]) -> String {
    cells.concat().chars().filter(char::is_ascii_alphanumeric).collect()
}

fn written(rows: &[[String; 5]], trailing: bool) -> String {
    let cell = |cell: &String| match cell.contains([',', '"', '\n']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.clone(),
    };
    let line = |row: &[String; 5]| {
        let cells: Vec<_> = row.iter().map(cell).collect();
        cells.join(",") + if trailing { ",\n" } else { "\n" }
    };
    rows.iter().map(line).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn stray_quotes_never_make_a_row_that_was_not_there(
        rows in any_table(),
        trailing in any::<bool>(),
        strays in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        piece in 1..64_usize,
    ) {
        let mut body = written(&rows, trailing);
        for stray in &strays {
            body.insert(stray.index(body.len()), '"');
        }
        let text = format!("user,da,ua,ts,id\n{body}");
        let mut csv = CsvRows::new(BufReader::with_capacity(piece, text.as_bytes()), 0);
        csv.next_row().unwrap();
        let (mut taken, mut told) = (Vec::new(), Vec::new());
        while let Some(line) = csv.next_row().unwrap() {
            // As files are read: what means something is not guessed at.
            let number = line.number;
            match line.row {
                Ok(row) if row.stray_quotes().iter().all(|cell| *cell == 2) => {
                    let cells: Vec<_> = row.cells().map(|cell| String::from_utf8_lossy(cell).into_owned()).collect();
                    // No id and no time has lines.
                    if [0, 1, 3, 4].iter().any(|&at| cells.get(at).is_some_and(|cell| cell.contains('\n'))) {
                        csv.reread_lines();
                        told.push(number);
                    } else {
                        taken.push(cells);
                    }
                }
                _ => told.push(number),
            }
        }
        for cells in &taken {
            // An event has a time; a quote that was put twice into a quoted cell belongs to it, and so does a separator at
            // the line's end that was put into quotes.
            let cell = |at: usize| cells.get(at).map_or(String::new(), |cell| cell.replace('"', ""));
            let cell = |at: usize| cell(at).trim_end_matches(',').to_owned();
            if cell(3).parse::<u64>().is_err() {
                continue;
            }
            let is_there = rows.iter().any(|row| [0, 1, 3, 4].iter().all(|&at| row[at] == cell(at)));
            // Four quotes too many on one line can pair up and move the bounds of its cells: then it is still that line's text, and
            // nothing of another's.
            let is_one_rows_text = rows.iter().any(|row| without_bounds(row) == without_bounds(cells));
            prop_assert!(is_there || is_one_rows_text, "{:?} was made of {:?}", cells, text);
        }
        // Each stray quote costs the lines of the rows it is in, at the most.
        if strays.is_empty() {
            let multiline = |row: &&[String; 5]| row[2].contains("a,b,c,d");
            prop_assert_eq!(taken.len(), rows.iter().filter(|row| !multiline(row)).count());
        }
        for row in rows.iter().filter(|row| row[2] == "x") {
            let line = format!("{},{},x,{},{}", row[0], row[1], row[3], row[4]);
            if text.lines().any(|found| found.trim_end_matches(',') == line) {
                prop_assert!(taken.iter().any(|cells| cells[0] == row[0]), "{} is missing of {:?}", line, text);
            }
        }
    }
}
