package apiv1_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/bufbuild/protocompile"
	_ "google.golang.org/genproto/googleapis/api/annotations" // the .proto files import it
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	apiv1 "sluice/api/v1"
)

// The generated code carries what it was made from. It must be what the .proto files say now.
func TestGeneratedCode_IsOfTheseFiles(t *testing.T) {
	for _, file := range []protoreflect.FileDescriptor{apiv1.File_api_v1_options_proto, apiv1.File_api_v1_operations_proto} {
		want, got := compiled(t, file.Path()), protodesc.ToFileDescriptorProto(file)
		if !proto.Equal(want, got) {
			t.Errorf("run `make api`: %s is\n%s\nand the generated code is of\n%s", file.Path(), protojson.Format(want), protojson.Format(got))
		}
	}
	methods := apiv1.File_api_v1_operations_proto.Services().ByName("Operations").Methods()
	generated := apiv1.Operations_ServiceDesc.Methods
	if methods.Len() != len(generated) || methods.Len() < 20 {
		t.Errorf("run `make api`: %d methods, and code of %d", methods.Len(), len(generated))
	}
	for _, m := range generated {
		if methods.ByName(protoreflect.Name(m.MethodName)) == nil {
			t.Errorf("run `make api`: there is code of %s, which is gone", m.MethodName)
		}
	}
}

// compiled reads a file as the compiler does, with the imports that are not ours as they were generated elsewhere.
func compiled(t *testing.T, path string) *descriptorpb.FileDescriptorProto {
	t.Helper()
	compiler := protocompile.Compiler{Resolver: protocompile.ResolverFunc(func(path string) (protocompile.SearchResult, error) {
		if source, err := os.Open(filepath.Join("..", "..", path)); err == nil {
			return protocompile.SearchResult{Source: source}, nil // the compiler closes it
		}
		known, err := protoregistry.GlobalFiles.FindFileByPath(path)
		return protocompile.SearchResult{Desc: known}, err
	})}
	files, err := compiler.Compile(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	// Through bytes, so that options are of the types that they have here.
	b, err := proto.Marshal(protodesc.ToFileDescriptorProto(files[0]))
	if err != nil {
		t.Fatal(err)
	}
	var file descriptorpb.FileDescriptorProto
	if err := proto.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	return &file
}
