//! What the user made of the view: which rows, in what order, which one is chosen.

use std::cmp::Ordering;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::columns::Columns;
use super::model::{Model, Row, RowKey};
use crate::status::Live;

/// What is asked of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// To end.
    Quit,
}

/// Which rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Pairs,
    Flows,
}

/// What rows are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// The other end's name.
    Name,
    /// One of the columns of numbers that are shown.
    Number(usize),
}

impl Sort {
    /// How many samples there are, which both kinds of columns begin with.
    const SAMPLES: Self = Self::Number(0);

    fn moved(self, by: isize, columns: Columns) -> Self {
        let place = match self {
            Self::Name => 0,
            Self::Number(at) => at as isize + 1,
        };
        match (place + by).rem_euclid(columns.each().len() as isize + 1) {
            0 => Self::Name,
            place => Self::Number(place as usize - 1),
        }
    }
}

/// The view.
pub(super) struct App {
    model: Model,
    /// What was there when it was paused.
    frozen: Option<Model>,
    /// Where what is shown comes from.
    pub(super) label: String,
    pub(super) kind: Kind,
    pub(super) columns: Columns,
    pub(super) sort: Sort,
    pub(super) ascending: bool,
    pub(super) filter: String,
    /// Whether keys go into the filter.
    pub(super) typing: bool,
    pub(super) help: bool,
    /// The chosen row stays chosen wherever it moves.
    pub(super) chosen: Option<RowKey>,
    /// The first row on the screen.
    pub(super) first: usize,
    /// Rows on the screen, for a page's key.
    pub(super) page: usize,
}

impl App {
    pub(super) fn new(label: String, shows_addresses: bool, columns: Columns) -> Self {
        Self {
            model: Model { shows_addresses, ..Model::default() },
            frozen: None,
            label,
            kind: Kind::Pairs,
            columns,
            sort: Sort::SAMPLES,
            ascending: false,
            filter: String::new(),
            typing: false,
            help: false,
            chosen: None,
            first: 0,
            page: 10,
        }
    }

    pub(super) fn add(&mut self, live: &Live) {
        let renamed = self.model.add(live);
        // A pause shows the rows as they were.
        if self.frozen.is_none()
            && let Some(chosen) = &mut self.chosen
            && let Some((_, now)) = renamed.into_iter().find(|(before, _)| before == chosen)
        {
            *chosen = now;
        }
    }

    /// What is to be shown.
    pub(super) fn shown(&self) -> &Model {
        self.frozen.as_ref().unwrap_or(&self.model)
    }

    /// What is so now, paused or not.
    pub(super) fn now(&self) -> &Model {
        &self.model
    }

    pub(super) fn is_paused(&self) -> bool {
        self.frozen.is_some()
    }

    /// The rows that pass the filter, in their order.
    pub(super) fn rows(&self) -> Vec<(&RowKey, &Row)> {
        let model = self.shown();
        let all = match self.kind {
            Kind::Pairs => &model.pairs,
            Kind::Flows => &model.flows,
        };
        let words: Vec<String> = self.filter.to_lowercase().split_whitespace().map(str::to_owned).collect();
        let passes = |key: &RowKey| {
            let text = format!("{} {} {}", key.src, key.dst, key.iface).to_lowercase();
            words.iter().all(|word| text.contains(word.as_str()))
        };
        // Of some nothing but how their connections do is known.
        let is_shown = |row: &Row| self.columns == Columns::Health || row.stats().is_some();
        let value = |row: &Row| match self.sort {
            Sort::Name => None,
            Sort::Number(at) => self.columns.each()[at].value(row),
        };
        let mut rows: Vec<(Option<f64>, &RowKey, &Row)> = all
            .iter()
            .filter(|(key, row)| is_shown(row) && passes(key))
            .map(|(key, row)| (value(row), key, row))
            .collect();
        rows.sort_by(|(a, a_key, ..), (b, b_key, ..)| {
            let by_value = a.partial_cmp(b).unwrap_or(Ordering::Equal);
            let by_value = if self.ascending { by_value } else { by_value.reverse() };
            let names = a_key.cmp(b_key);
            let by_name = if self.sort == Sort::Name && !self.ascending { names.reverse() } else { names };
            by_value.then(by_name)
        });
        rows.into_iter().map(|(_, key, row)| (key, row)).collect()
    }

    /// Takes a key.
    pub(super) fn key(&mut self, key: KeyEvent) -> Option<Wish> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && matches!(key.code, KeyCode::Char('c' | 'd')) {
            return Some(Wish::Quit);
        }
        if self.typing {
            self.type_filter(key.code, control);
            return None;
        }
        if self.help {
            self.help = false;
            return None;
        }
        match key.code {
            KeyCode::Char('q') => return Some(Wish::Quit),
            KeyCode::Esc if self.filter.is_empty() => return Some(Wish::Quit),
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Char('h' | '?') | KeyCode::F(1) => self.help = true,
            KeyCode::Char(' ' | 'p') => {
                self.frozen = if self.is_paused() { None } else { Some(self.model.clone()) };
            }
            KeyCode::Tab | KeyCode::Char('f') => {
                self.kind = if self.kind == Kind::Pairs { Kind::Flows } else { Kind::Pairs };
                self.chosen = None;
            }
            KeyCode::Char('m') => {
                self.columns = self.columns.other();
                // The others have other numbers.
                if self.sort != Sort::Name {
                    self.sort_by(Sort::SAMPLES);
                }
            }
            KeyCode::Char('c') => {
                self.model.clear();
                self.frozen = None;
            }
            KeyCode::Char('r') => self.ascending = !self.ascending,
            KeyCode::Left | KeyCode::Char('<') => self.sort_by(self.sort.moved(-1, self.columns)),
            KeyCode::Right | KeyCode::Char('>' | 's') => self.sort_by(self.sort.moved(1, self.columns)),
            KeyCode::Down | KeyCode::Char('j') => self.choose(1),
            KeyCode::Up | KeyCode::Char('k') => self.choose(-1),
            KeyCode::PageDown => self.choose(self.page as isize),
            KeyCode::PageUp => self.choose(-(self.page as isize)),
            KeyCode::Home | KeyCode::Char('g') => self.choose(isize::MIN / 2),
            KeyCode::End | KeyCode::Char('G') => self.choose(isize::MAX / 2),
            _ => {}
        }
        None
    }

    fn type_filter(&mut self, code: KeyCode, control: bool) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.filter.clear();
                self.typing = false;
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char('u') if control => self.filter.clear(),
            KeyCode::Char(c) if !control => self.filter.push(c),
            _ => {}
        }
    }

    /// Names are read from A, numbers from the largest.
    fn sort_by(&mut self, column: Sort) {
        self.sort = column;
        self.ascending = column == Sort::Name;
    }

    fn choose(&mut self, by: isize) {
        let rows = self.rows();
        let place =
            self.chosen.as_ref().and_then(|chosen| rows.iter().position(|(key, ..)| *key == chosen)).unwrap_or(0);
        let last = rows.len().saturating_sub(1);
        let place = (place as isize).saturating_add(by).clamp(0, last as isize) as usize;
        self.chosen = rows.get(place).map(|(key, ..)| (*key).clone());
    }
}
