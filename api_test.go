package sluice_test

import (
	"regexp"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// bareNumbers names the integer fields that need no unit: what they count is
// what they are called.
var bareNumbers = regexp.MustCompile(`(^|_)(id|ids|offset|partition|epoch|version|sequence|port)$` +
	`|^(partitions|page_size|max_records|high_watermark|replication_factor|lag)$` +
	`|_(bytes|count|percent|per_second)$`)

// pagelessLists names RPCs that Kafka calls a list and that answer one thing.
var pagelessLists = map[protoreflect.Name]bool{"ListOffsets": true}

// TestAPI holds the public API to what buf lint cannot check.
func TestAPI(t *testing.T) {
	files := 0
	protoregistry.GlobalFiles.RangeFilesByPackage(
		sluicev1.File_sluice_v1_log_proto.Package(),
		func(file protoreflect.FileDescriptor) bool {
			files++
			for i := range file.Services().Len() {
				methods := file.Services().Get(i).Methods()
				for j := range methods.Len() {
					checkMethod(t, methods.Get(j))
				}
			}
			checkMessages(t, file.Messages())
			return true
		})
	if files < 7 {
		t.Errorf("only %d files of sluice.v1 were found", files)
	}
}

func checkMethod(t *testing.T, m protoreflect.MethodDescriptor) {
	t.Helper()
	unary := !m.IsStreamingClient() && !m.IsStreamingServer()
	if unary && !proto.HasExtension(m.Options(), annotations.E_Http) {
		t.Errorf("%s: a unary RPC needs google.api.http, so that REST users have it too",
			m.FullName())
	}
	permission, _ := proto.GetExtension(m.Options(), sluicev1.E_Permission).(*sluicev1.Permission)
	if permission.GetOperation() == 0 || permission.GetResource() == 0 {
		t.Errorf("%s: declare the permission that the RPC needs", m.FullName())
	}
	if strings.HasPrefix(string(m.Name()), "List") && !pagelessLists[m.Name()] {
		in, out := m.Input().Fields(), m.Output().Fields()
		asks := in.ByName("page_size") != nil && in.ByName("page_token") != nil
		if !asks || out.ByName("next_page_token") == nil {
			t.Errorf("%s: a list needs page_size, page_token and next_page_token (AIP-158)",
				m.FullName())
		}
	}
}

func checkMessages(t *testing.T, ms protoreflect.MessageDescriptors) {
	t.Helper()
	for i := range ms.Len() {
		checkMessages(t, ms.Get(i).Messages())
		for j := range ms.Get(i).Fields().Len() {
			f := ms.Get(i).Fields().Get(j)
			switch f.Kind() {
			case protoreflect.Uint32Kind, protoreflect.Uint64Kind,
				protoreflect.Fixed32Kind, protoreflect.Fixed64Kind:
				t.Errorf("%s: use int32 or int64 (AIP-141)", f.FullName())
			case protoreflect.Int32Kind, protoreflect.Int64Kind:
				if !bareNumbers.MatchString(string(f.Name())) {
					t.Errorf("%s: say the unit (_bytes, _count), "+
						"or use Duration or Timestamp (AIP-141, AIP-142)", f.FullName())
				}
			}
		}
	}
}
