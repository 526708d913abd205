/* Completes a struct that dwarf_compiled.c knows by its typedef only. */
#include <stddef.h>

struct _late { char pad; long value; };

struct _late late_variable;

size_t late_value_offset(void) { return offsetof(struct _late, value); }
