package inproc

import (
	"reflect"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// move makes dst what src is. Both are generated messages, nearly always of one
// Go type: then the struct is copied and everything below it shared. Otherwise
// (a dynamic message on one side) the message goes through its encoding.
func move(dst, src any) error {
	to, from := reflect.ValueOf(dst), reflect.ValueOf(src)
	if to.Type() == from.Type() && to.Kind() == reflect.Pointer &&
		to.Elem().Kind() == reflect.Struct {
		if from.IsNil() { // encodes as an empty message
			to.Elem().SetZero()
			return nil
		}
		to.Elem().Set(from.Elem())
		return nil
	}
	in, okIn := src.(proto.Message)
	out, okOut := dst.(proto.Message)
	if !okIn || !okOut {
		return status.Errorf(codes.Internal, "inproc: a %T cannot be sent as a %T", src, dst)
	}
	encoded, err := proto.Marshal(in)
	if err == nil {
		err = proto.Unmarshal(encoded, out)
	}
	if err != nil {
		return status.Errorf(codes.Internal, "inproc: sending a %T as a %T: %v", src, dst, err)
	}
	return nil
}

// checkSize fails if m is larger than limit once encoded. 0 is no limit.
func checkSize(m any, limit int, doing string) error {
	message, ok := m.(proto.Message)
	if limit <= 0 || !ok {
		return nil
	}
	if size := proto.Size(message); size > limit {
		return tooLarge(doing, size, limit)
	}
	return nil
}
