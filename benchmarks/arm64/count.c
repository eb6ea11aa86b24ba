/* A plugin for QEMU's user mode that counts the arm64 instructions a program executes.
 *
 * The program marks places in its run by getsid(0), a system call without effect that nothing else
 * here makes (in Python: os.getsid(0)). At each, the plugin appends the line "TOTAL SIMD" to the
 * file of its argument marks=FILE: instructions so far, and how many of them are of the class
 * "data processing, scalar floating point and Advanced SIMD". That class holds the arithmetic
 * (FMLA, SDOT, ...) and not the loads and stores of vector registers. Two marks around a loop
 * give the loop's count, whatever came before.
 *
 * Compile with -DPLUGIN_API=1 for QEMU before 9.0, 2 for 9.0, 3 for later ones. QEMU's header is not
 * packaged everywhere, so the few declarations that are needed stand here. */
#include <inttypes.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t plugin_id;
struct qemu_plugin_tb;   /* a translated block: instructions up to a jump */
struct qemu_plugin_insn; /* one of its instructions */
enum register_access { NO_REGISTERS = 0 };

typedef void on_translation(plugin_id, struct qemu_plugin_tb *);
typedef void on_execution(unsigned vcpu, void *data);
typedef void on_syscall(plugin_id, unsigned vcpu, int64_t number, uint64_t, uint64_t, uint64_t,
                        uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, on_translation *);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, on_execution *,
                                          enum register_access, void *data);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id, on_syscall *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t index);
#if PLUGIN_API < 3
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
#else
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *, void *to, size_t size);
#endif

int qemu_plugin_version = PLUGIN_API;

enum { GETSID = 156 }; /* its number on arm64 */

/* Runtimes start threads even when told to use one; they sleep, but must not corrupt a count. */
static atomic_uint_fast64_t total, simd;
static FILE *marks;

static uint32_t encoding(const struct qemu_plugin_insn *instruction) {
    uint32_t word = 0;
#if PLUGIN_API < 3
    memcpy(&word, qemu_plugin_insn_data(instruction), sizeof word);
#else
    qemu_plugin_insn_data(instruction, &word, sizeof word);
#endif
    return word;
}

/* Both counts of a block fit one pointer: a block has at most some hundred instructions. */
static void executed(unsigned vcpu, void *data) {
    uintptr_t counts = (uintptr_t)data;
    (void)vcpu;
    atomic_fetch_add_explicit(&total, counts & 0xffff, memory_order_relaxed);
    if (counts >> 16) atomic_fetch_add_explicit(&simd, counts >> 16, memory_order_relaxed);
}

static void translated(plugin_id id, struct qemu_plugin_tb *block) {
    uintptr_t count = qemu_plugin_tb_n_insns(block), vector = 0;
    (void)id;
    for (size_t i = 0; i < count; i++) {
        /* Bits 28 to 25 are x111: Arm Architecture Reference Manual, top-level A64 encodings. */
        vector += (encoding(qemu_plugin_tb_get_insn(block, i)) >> 25 & 7) == 7;
    }
    qemu_plugin_register_vcpu_tb_exec_cb(block, executed, NO_REGISTERS,
                                         (void *)(count | vector << 16));
}

static void called(plugin_id id, unsigned vcpu, int64_t number, uint64_t a1, uint64_t a2,
                   uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
    (void)id, (void)vcpu, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number != GETSID || a1 != 0) return;
    fprintf(marks, "%" PRIu64 " %" PRIu64 "\n", (uint64_t)atomic_load(&total),
            (uint64_t)atomic_load(&simd));
    fflush(marks);
}

int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
    (void)info;
    if (argc == 1 && strncmp(argv[0], "marks=", 6) == 0) marks = fopen(argv[0] + 6, "a");
    if (marks == NULL) {
        fprintf(stderr, "count: expected the argument marks=FILE, a file that can be written\n");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
