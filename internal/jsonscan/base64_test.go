package jsonscan_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/jsonscan"
)

func TestEveryLengthOfBase64(t *testing.T) {
	for size := range 70 {
		src := make([]byte, size)
		for i := range src {
			src[i] = byte(0xff - i*37)
		}
		text := jsonscan.EncodeBase64([]byte("x"), src)
		assert.Equal(t, "x"+base64.StdEncoding.EncodeToString(src), string(text))
		for _, encoding := range []*base64.Encoding{
			base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding,
		} {
			text := []byte(encoding.EncodeToString(src))
			got, err := jsonscan.AppendBase64([]byte("y"), text)
			require.NoError(t, err)
			assert.Equal(t, "y"+string(src), string(got))
		}
	}
}

func TestOneWrongCharacterOfBase64(t *testing.T) {
	for size := 4; size < 40; size++ {
		for at := range size {
			for _, c := range "!\"= \n\x00\x7f" {
				text := []byte(strings.Repeat("A", size))
				if text[at] = byte(c); c == '=' && at >= size-2 {
					continue // padding
				}
				got, err := jsonscan.AppendBase64([]byte("kept"), text)
				assert.Error(t, err, "%q", text)
				assert.Equal(t, "kept", string(got))
			}
		}
	}
	for _, text := range []string{"AAAAAAAA+AAA-AAA", "_AAA/AAA", "AA+-", "AAAAAAAAAAAAA+_"} {
		_, err := jsonscan.AppendBase64(nil, []byte(text))
		assert.ErrorContains(t, err, "of the standard alphabet")
	}
}

// FuzzEncodeBase64 compares with encoding/base64 and reads back what was
// written.
func FuzzEncodeBase64(f *testing.F) {
	f.Add([]byte("a longer text than one group"))
	f.Fuzz(func(t *testing.T, src []byte) {
		text := jsonscan.EncodeBase64(nil, src)
		require.Equal(t, base64.StdEncoding.EncodeToString(src), string(text))
		back, err := jsonscan.AppendBase64(nil, text)
		require.NoError(t, err)
		require.Equal(t, string(src), string(back))
	})
}

// BenchmarkBase64 compares with encoding/base64 in one run.
func BenchmarkBase64(b *testing.B) {
	src := []byte(strings.Repeat("\x00\x10\x83\xfe", 256))
	text := []byte(base64.StdEncoding.EncodeToString(src))
	dst := make([]byte, 0, 2048)
	strict := base64.RawStdEncoding.Strict()
	for name, do := range map[string]func(){
		"decode/jsonscan": func() { dst, _ = jsonscan.AppendBase64(dst[:0], text) },
		"decode/encoding": func() { dst, _ = strict.AppendDecode(dst[:0], text[:len(text)-2]) },
		"encode/jsonscan": func() { dst = jsonscan.EncodeBase64(dst[:0], src) },
		"encode/encoding": func() { dst = base64.StdEncoding.AppendEncode(dst[:0], src) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(src)))
			for b.Loop() {
				do()
			}
		})
	}
}
