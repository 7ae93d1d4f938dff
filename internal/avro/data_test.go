package avro

import (
	"bufio"
	"compress/gzip"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
)

// rows reads a file of testdata, one JSON object a line.
func rows[T any](t testing.TB, name string) []T {
	t.Helper()
	f, err := os.Open("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(name, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	var all []T
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var row T
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			t.Fatalf("%s line %d: %v", name, len(all)+1, err)
		}
		all = append(all, row)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func mustParse(t testing.TB, text string, o Options) *Schema {
	t.Helper()
	s, err := Parse(text, o)
	if err != nil {
		t.Fatalf("%.300s: %v", text, err)
	}
	return s
}

func lenient(t testing.TB, text string) *Schema {
	t.Helper()
	return mustParse(t, text, Options{Mode: Lenient})
}

func strict(t testing.TB, text string) *Schema {
	t.Helper()
	return mustParse(t, text, Options{})
}

type canonicalRow struct {
	Schema, Canonical, Normalized, PCF, CRC64, SHA256, MD5 string
	NormalizedCanonical                                    string `json:"normalized_canonical"`
	StrictOK                                               *bool  `json:"strict_ok"`
	StrictError                                            string `json:"strict_error"`
	ParseError                                             string `json:"parse_error"`
}

func TestCanonicalTextsAreJavas(t *testing.T) {
	all := rows[canonicalRow](t, "canonical.jsonl.gz")
	if len(all) < 1372 {
		t.Fatalf("%d rows", len(all))
	}
	for _, r := range all {
		s, err := Parse(r.Schema, Options{Mode: Lenient})
		if (err != nil) != (r.ParseError != "") {
			t.Errorf("%s: got %v, Java says %q", r.Schema, err, r.ParseError)
		}
		_, strictErr := Parse(r.Schema, Options{})
		if ok := r.StrictOK != nil && *r.StrictOK; ok != (strictErr == nil) {
			t.Errorf("%s: strict: got %v, Java says %q", r.Schema, strictErr, r.StrictError)
		}
		if err != nil {
			continue
		}
		checkCanonical(t, r, s)
	}
}

func checkCanonical(t *testing.T, r canonicalRow, s *Schema) {
	t.Helper()
	equal := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s of %s:\n got %s\nwant %s", what, r.Schema, got, want)
		}
	}
	equal("canonical", s.Canonical(), r.Canonical)
	equal("parsing form", s.ParsingForm(), r.PCF)
	equal("CRC-64", strconv.FormatInt(int64(s.CRC64()), 10), r.CRC64)
	sha := s.SHA256()
	equal("SHA-256", hex.EncodeToString(sha[:]), r.SHA256)
	sum := md5.Sum([]byte(s.Canonical()))
	equal("MD5", hex.EncodeToString(sum[:]), r.MD5)
	text, err := s.Normalized()
	if err != nil {
		t.Errorf("normalizing %s: %v", r.Schema, err)
		return
	}
	equal("normalized", text, r.Normalized)
	n, err := s.Normalize()
	if err != nil {
		t.Errorf("normalizing %s: %v", r.Schema, err)
		return
	}
	equal("normalized canonical", n.Canonical(), r.NormalizedCanonical)
}

// TestAvrosOwnVectors runs the canonical-form and fingerprint vectors that
// Avro ships for all its languages.
func TestAvrosOwnVectors(t *testing.T) {
	data, err := os.ReadFile("testdata/schema-tests.txt")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, block := range strings.Split(string(data), "\n<<INPUT")[1:] {
		count++
		input, rest := vectorText(block, "\nINPUT\n")
		s := lenient(t, input)
		if _, after, ok := strings.Cut(rest, "<<canonical"); ok {
			want, _ := vectorText(after, "\ncanonical\n")
			if got := s.ParsingForm(); got != want {
				t.Errorf("%s:\n got %s\nwant %s", input, got, want)
			}
		}
		if _, after, ok := strings.Cut(rest, "<<fingerprint "); ok {
			want := strings.Fields(after)[0]
			if got := strconv.FormatInt(int64(s.CRC64()), 10); got != want {
				t.Errorf("%s: fingerprint %s, want %s", input, got, want)
			}
		}
	}
	if count != 34 {
		t.Errorf("%d vectors", count)
	}
}

// vectorText cuts a text off a block: a line, or a here-document up to end.
func vectorText(block, end string) (text, rest string) {
	if after, ok := strings.CutPrefix(block, "\n"); ok {
		text, rest, _ = strings.Cut(after, end)
		return text, rest
	}
	text, rest, _ = strings.Cut(block, "\n")
	return strings.TrimSpace(text), rest
}
