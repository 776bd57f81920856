// Package textrec reads and writes key/value records as text.
//
// # Formats
//
// Keys and values are arbitrary bytes; text files are not. Each format can express bytes that are
// not text, so that a [Reader] returns exactly the bytes that a [Writer] wrote.
//
//   - jsonl: one JSON object per line, {"key":"a","value":"b"}.
//   - csv: RFC 4180 with a header row, key,value,base64.
//   - tsv: a header row, and fields separated by tabs. Inside a field \t, \n, \r and \\ stand for a
//     tab, the two line ends and the backslash.
//   - lines: no header; the key, then a tab and the value. A line without a tab is a key with an
//     empty value, so a word list is a set. Escapes are as in tsv, with \xHH for any byte.
//     Everything that is not printable is escaped, so the format is safe on a terminal.
//
// In the first three formats a field "base64" holds "key", "value" or "both" if those are written
// in standard base64 because they are not text. Otherwise it is empty or, in jsonl, absent. Text is
// valid UTF-8. In csv and tsv it also has no control characters other than tab and newline (in tsv
// also carriage return), because other programs treat them differently.
//
// The field "expires_at" is the time from which a record is absent, in RFC 3339 with nanoseconds.
// It is absent or empty if the record never expires. csv and tsv have the column only if a record
// expires. lines has no such field.
//
// # Files of other programs
//
// With Options.Key the input need not have those fields. Any object, or any row with a header,
// becomes a record whose key is the field of that name. Its value is the field named by
// Options.Value, or else the whole: the JSON line unchanged, or the row as a JSON object of
// strings.
//
// A byte order mark at the start is skipped. Lines may end in CRLF, empty lines are skipped, and
// the last line may lack its end.
//
// # Errors
//
// A [*LineError] names the line of a record that cannot be used. Reading may continue after it. Any
// other error ends the input.
package textrec
