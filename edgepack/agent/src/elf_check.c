#include "elf_check.h"

#include <elf.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "regular.h"

#if defined(__aarch64__)
enum { THIS_MACHINE = EM_AARCH64 };
#elif defined(__x86_64__)
enum { THIS_MACHINE = EM_X86_64 };
#else
#error "edgepack-agent is for aarch64 and x86_64"
#endif

static const char *machine_name(unsigned machine)
{
    switch (machine) {
    case EM_AARCH64: return "aarch64";
    case EM_X86_64: return "x86_64";
    case EM_ARM: return "32-bit ARM";
    default: return "another machine";
    }
}

/* Reads the build ID, if these are notes that begin with it, as the linker writes them. */
static void read_build_id(FILE *file, const Elf64_Phdr *notes, unsigned char *build_id)
{
    struct {
        Elf64_Nhdr head;
        char owner[sizeof "GNU"];
        unsigned char id[BUILD_ID];
    } note;
    const off_t before = ftello(file);
    if (fseeko(file, (off_t)notes->p_offset, SEEK_SET) == 0 && fread(&note, sizeof note, 1, file) == 1 &&
        note.head.n_type == NT_GNU_BUILD_ID && note.head.n_descsz == BUILD_ID &&
        note.head.n_namesz == sizeof note.owner && memcmp(note.owner, "GNU", sizeof note.owner) == 0)
        memcpy(build_id, note.id, BUILD_ID);
    fseeko(file, before, SEEK_SET);
}

static bool check_segments(FILE *file, const Elf64_Ehdr *head, const char *path, uint64_t size,
                           unsigned char *build_id, struct failure *failure)
{
    Elf64_Phdr segment;
    if (head->e_phentsize != sizeof segment || fseeko(file, (off_t)head->e_phoff, SEEK_SET) != 0)
        return fail(failure, STATUS_INPUT, "%s is damaged: its program header offset is invalid", path);
    for (unsigned i = 0; i < head->e_phnum; i++) {
        if (fread(&segment, sizeof segment, 1, file) != 1)
            return fail(failure, STATUS_INPUT, "%s is truncated in its program headers", path);
        if (segment.p_offset > size || segment.p_filesz > size - segment.p_offset)
            return fail(failure, STATUS_INPUT, "%s is truncated: it is %llu bytes long and needs %llu", path,
                        (unsigned long long)size, (unsigned long long)(segment.p_offset + segment.p_filesz));
        if (build_id != NULL && segment.p_type == PT_NOTE)
            read_build_id(file, &segment, build_id);
    }
    return true;
}

static bool check_file(FILE *file, const char *path, unsigned char *build_id, struct failure *failure)
{
    struct stat info;
    Elf64_Ehdr head;
    if (fstat(fileno(file), &info) != 0)
        return fail(failure, STATUS_INPUT, "%s cannot be read", path);
    if (fread(&head, sizeof head, 1, file) != 1 || memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 ||
        head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_ident[EI_DATA] != ELFDATA2LSB || head.e_type != ET_DYN)
        return fail(failure, STATUS_INPUT, "%s is not a shared library", path);
    if (head.e_machine != THIS_MACHINE)
        return fail(failure, STATUS_INPUT, "%s is built for %s, this board is %s", path,
                    machine_name(head.e_machine), machine_name(THIS_MACHINE));
    return check_segments(file, &head, path, (uint64_t)info.st_size, build_id, failure);
}

bool elf_check(const char *path, unsigned char *build_id, struct failure *failure)
{
    if (build_id != NULL)
        memset(build_id, 0, BUILD_ID);
    FILE *file = regular_open(path, failure);
    if (file == NULL)
        return false;
    bool good = check_file(file, path, build_id, failure);
    fclose(file);
    return good;
}
