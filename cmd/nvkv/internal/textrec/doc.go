// Package textrec reads and writes key/value records as text.
//
// # Formats
//
// Keys and values are any bytes; text files are not. Each format says how it
// carries bytes that are not text, so that what a [Writer] wrote a [Reader]
// gives back byte for byte.
//
//   - jsonl: one JSON object a line, {"key":"a","value":"b"}.
//   - csv: RFC 4180 with a header row, key,value,base64.
//   - tsv: a header row, fields parted by tabs. Inside a field \t, \n, \r
//     and \\ stand for a tab, the two line ends and the backslash.
//   - lines: no header; the key, then a tab and the value. A line without a
//     tab is a key with an empty value, so a word list is a set. Escapes as
//     in tsv, and \xHH for any byte; everything that is not printable is
//     escaped, which makes the format safe to show on a terminal.
//
// In the first three a field "base64" holds "key", "value" or "both" where
// those are written in standard base64 because they are not text; elsewhere
// it is empty or, in jsonl, absent. Text is valid UTF-8; in csv and tsv also
// free of control characters other than tab and newline (in tsv carriage
// return too), which other programs do not agree about.
//
// # Foreign files
//
// With Options.Key the input need not have those fields: any object, or any
// row with a header, becomes a record whose key is the field of that name. Its
// value is the field named by Options.Value, or else the whole: the JSON line
// as it stands, or the row as a JSON object of strings.
//
// A byte order mark at the start is skipped, lines may end in CRLF, empty
// lines are passed over, and the last line may lack its end.
//
// # Errors
//
// A [*LineError] names the line of a record that cannot be used; reading goes
// on behind it. Any other error ends the input.
package textrec
