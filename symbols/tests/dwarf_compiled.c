/* Every way to declare a member, and what the compiler makes of it. */
#include <stddef.h>
#include <stdio.h>

struct inner { char a; short b; };
typedef struct inner inner_alias;
typedef const inner_alias inner_const;

/* Complete in dwarf_compiled_late.c only. */
typedef struct _late late;
late *late_pointer;
size_t late_value_offset(void);

struct everything {
    int first;
    inner_const nested;
    inner_alias array[3][2];
    union { long one; struct { char two; int three; }; };
    struct { struct { double deep; } middle; } outer;
    unsigned low : 3, mid : 7, high : 9;
    void *pointer;
    struct everything *next;
    char flexible[];
};

typedef struct { char tag; struct everything *more; } anonymous;

struct everything everything;
anonymous anonymous_variable;

#define OFFSET(type, name, path) printf(name " %zu\n", offsetof(type, path))

int main(void) {
    OFFSET(struct everything, "everything first", first);
    OFFSET(struct everything, "everything nested", nested);
    OFFSET(struct everything, "everything nested.b", nested.b);
    OFFSET(struct everything, "everything array", array);
    OFFSET(struct everything, "everything array.b", array[0][0].b);
    OFFSET(struct everything, "everything one", one);
    OFFSET(struct everything, "everything two", two);
    OFFSET(struct everything, "everything three", three);
    OFFSET(struct everything, "everything outer.middle.deep", outer.middle.deep);
    OFFSET(struct everything, "everything pointer", pointer);
    OFFSET(struct everything, "everything next", next);
    OFFSET(struct everything, "everything flexible", flexible);
    OFFSET(anonymous, "anonymous more", more);
    printf("late value %zu\n", late_value_offset());
    OFFSET(inner_const, "inner_alias b", b);
    return 0;
}
